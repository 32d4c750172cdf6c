import SluiceStreams

/// What stands in a request's path where a route's has `{NAME}`, for endpoints that name it too.
enum PathParameters {
  /// The names in an endpoint, or in the path of a route.
  static func names(in text: String) -> [String] {
    pieces(of: text).compactMap { if case .name(let name) = $0 { String(name) } else { nil } }
  }

  /// The text with the values in the places of their names. A name without a value stays.
  static func fill(
    _ text: String, with values: [String: String], encoding encode: (String) -> String = { $0 }
  ) -> String {
    pieces(of: text).map { piece in
      switch piece {
      case .text(let text): String(text)
      case .name(let name): values[String(name)].map(encode) ?? "{\(name)}"
      }
    }.joined()
  }

  /// For a URL's path or query: what separates parts of these is no separator in a value (RFC 3986 §2.3).
  static func fillURL(_ text: String, with values: [String: String]) -> String {
    fill(text, with: values) { value in
      var encoded = ""
      for byte in value.utf8 {
        let digits = String(byte, radix: 16, uppercase: true)
        encoded +=
          ASCII.isLetter(byte) || ASCII.isDigit(byte) || "-._~".utf8.contains(byte)
          ? String(UnicodeScalar(byte)) : "%" + (digits.count == 1 ? "0" : "") + digits
      }
      return encoded
    }
  }

  private enum Piece {
    case text(Substring)
    case name(Substring)
  }

  private static func pieces(of text: String) -> [Piece] {
    var pieces: [Piece] = []
    var rest = text[...]
    while let open = rest.firstIndex(of: "{"), let close = rest[open...].firstIndex(of: "}") {
      let name = rest[rest.index(after: open)..<close]
      if !name.isEmpty && name.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_" || $0 == "-") }) {
        pieces += [.text(rest[..<open]), .name(name)]
        rest = rest[rest.index(after: close)...]
      } else {
        pieces.append(.text(rest[...open]))
        rest = rest[rest.index(after: open)...]
      }
    }
    return pieces + [.text(rest)]
  }
}

extension Endpoint {
  /// The names of `{NAME}` in what may have them: names of rooms and topics, and URLs. A shell gives braces a meaning of its own, and would run what a client
  /// has chosen; commands find the values in their environment.
  var parameterNames: [String] {
    switch self {
    case .room(let name): PathParameters.names(in: name)
    case .webSocket(let url) where url.contains("://"): PathParameters.names(in: url)
    case .topic(let url): PathParameters.names(in: url.name)
    default: []
    }
  }

  /// With what a request's path has in the places of the names.
  func filled(with values: [String: String]) -> Endpoint {
    if values.isEmpty { return self }
    return switch self {
    case .room(let name): .room(name: PathParameters.fill(name, with: values))
    case .webSocket(let url) where url.contains("://"): .webSocket(url: PathParameters.fillURL(url, with: values))
    default: self
    }
  }
}
