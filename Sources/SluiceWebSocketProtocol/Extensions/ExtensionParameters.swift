import SluiceStreams

/// An extension as a `Sec-WebSocket-Extensions` field names it, with its parameters in order (RFC 6455 §9.1).
///
/// ```swift
/// let offer = ExtensionParameters("permessage-deflate", ["client_max_window_bits": nil])
/// offer.description   // permessage-deflate; client_max_window_bits
/// ```
public struct ExtensionParameters: Sendable, Hashable {
  public struct Parameter: Sendable, Hashable {
    /// A token, as it was written.
    public var name: String
    /// A token without its quotes, or nil if there is none.
    public var value: String?

    public init(name: String, value: String? = nil) {
      self.name = name
      self.value = value
    }
  }

  /// The extension's name, a token.
  public var name: String
  /// In the order of the field; a name may come more than once, which is for the extension to judge.
  public var parameters: [Parameter]

  public init(_ name: String, _ parameters: KeyValuePairs<String, String?> = [:]) {
    self.name = name
    self.parameters = parameters.map { Parameter(name: $0.key, value: $0.value) }
  }

  init(name: String, parameters: [Parameter]) {
    self.name = name
    self.parameters = parameters
  }

  /// Whether all of it can be written into a field: names and values are tokens.
  var isWritable: Bool {
    name.utf8.isToken && parameters.allSatisfy { $0.name.utf8.isToken && $0.value?.utf8.isToken ?? true }
  }
}

extension ExtensionParameters: CustomStringConvertible {
  /// As it stands in a field.
  public var description: String {
    parameters.reduce(name) { text, parameter in
      text + "; " + parameter.name + (parameter.value.map { "=" + $0 } ?? "")
    }
  }
}

/// A `Sec-WebSocket-Extensions` field that is not what RFC 6455 §9.1 says.
struct MalformedExtensions: Error {}

extension ExtensionParameters {
  /// Reads a field's value: extensions in order, separated by commas. Each byte is looked at once.
  static func parse(_ value: String) throws(MalformedExtensions) -> [ExtensionParameters] {
    var scanner = FieldScanner(value)
    var extensions: [ExtensionParameters] = []
    while true {
      scanner.skipBlanks()
      // RFC 9110 §5.6.1: empty elements of a list are passed over.
      if scanner.skip(",") { continue }
      if scanner.isAtEnd { return extensions }
      extensions.append(try extensionItem(&scanner))
      guard scanner.isAtEnd || scanner.skip(",") else { throw MalformedExtensions() }
    }
  }

  private static func extensionItem(_ scanner: inout FieldScanner) throws(MalformedExtensions) -> ExtensionParameters {
    guard let name = scanner.token() else { throw MalformedExtensions() }
    var item = ExtensionParameters(name: name, parameters: [])
    scanner.skipBlanks()
    while scanner.skip(";") {
      scanner.skipBlanks()
      guard let name = scanner.token() else { throw MalformedExtensions() }
      scanner.skipBlanks()
      var parameter = Parameter(name: name)
      if scanner.skip("=") {
        scanner.skipBlanks()
        guard let value = scanner.tokenOrQuotedToken() else { throw MalformedExtensions() }
        parameter.value = value
        scanner.skipBlanks()
      }
      item.parameters.append(parameter)
    }
    return item
  }
}

/// Walks over a field's value, forwards only.
private struct FieldScanner {
  private let bytes: [UInt8]
  private var position = 0

  init(_ value: String) { bytes = Array(value.utf8) }

  var isAtEnd: Bool { position == bytes.count }

  mutating func skipBlanks() {
    while position < bytes.count, ASCII.isBlank(bytes[position]) { position += 1 }
  }

  mutating func skip(_ character: Unicode.Scalar) -> Bool {
    guard position < bytes.count, bytes[position] == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  mutating func token() -> String? {
    let start = position
    while position < bytes.count, ASCII.isTokenCharacter(bytes[position]) { position += 1 }
    return start == position ? nil : String(decoding: bytes[start..<position], as: UTF8.self)
  }

  /// RFC 6455 §9.1: a quoted value must be a token once it is unquoted.
  mutating func tokenOrQuotedToken() -> String? {
    guard skip("\"") else { return token() }
    var value: [UInt8] = []
    while position < bytes.count {
      if skip("\"") { return value.isEmpty ? nil : String(decoding: value, as: UTF8.self) }
      _ = skip("\\")
      guard position < bytes.count, ASCII.isTokenCharacter(bytes[position]) else { return nil }
      value.append(bytes[position])
      position += 1
    }
    return nil
  }
}
