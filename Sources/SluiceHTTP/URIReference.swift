import SluiceStreams

/// A URI or a relative reference, taken apart (RFC 3986 §4.1, appendix B). Its parts are not checked further.
///
/// ```swift
/// let base = URIReference("http://a/b/c/d?q")
/// URIReference("../g").resolved(against: base).description   // http://a/b/g
/// ```
package struct URIReference: Hashable, Sendable {
  /// In lower case; nil in a relative reference.
  package var scheme: String?
  package var authority: String?
  package var path: String
  package var query: String?
  package var fragment: String?

  package init(_ text: String) {
    var rest = text.wire
    // §4.2: a colon behind the first "/", "?" or "#" belongs to no scheme.
    if let end = rest.firstIndex(where: { ":/?#".utf8.contains($0) }), end > rest.startIndex,
      rest[end] == UInt8(ascii: ":")
    {
      // §3.1: the case of its letters does not matter.
      scheme = rest[..<end].text.lowercasedASCII
      rest = rest[end...].dropFirst()
    }
    if rest.begins(with: "//") {
      rest = rest.dropFirst(2)
      authority = Self.take(from: &rest, upTo: "/?#")
    }
    path = Self.take(from: &rest, upTo: "?#")
    if rest.first == UInt8(ascii: "?") {
      rest = rest.dropFirst()
      query = Self.take(from: &rest, upTo: "#")
    }
    if rest.first == UInt8(ascii: "#") { fragment = rest.dropFirst().text }
  }

  private static func take(from rest: inout WireText, upTo ends: String) -> String {
    let part = rest.prefix { !ends.utf8.contains($0) }
    rest = rest[part.endIndex...]
    return part.text
  }

  /// What this refers to in a document of another URI (§5.2.2, strictly).
  package func resolved(against base: URIReference) -> URIReference {
    var target = self
    if scheme != nil {
      target.path = Self.removingDotSegments(path)
      return target
    }
    target.scheme = base.scheme
    if authority != nil {
      target.path = Self.removingDotSegments(path)
      return target
    }
    target.authority = base.authority
    if path.isEmpty {
      target.path = base.path
      target.query = query ?? base.query
    } else {
      target.path = Self.removingDotSegments(path.utf8.begins(with: "/") ? path : merged(with: base))
    }
    return target
  }

  /// §5.2.3.
  private func merged(with base: URIReference) -> String {
    if base.authority != nil && base.path.isEmpty { return "/" + path }
    guard let slash = base.path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return path }
    return base.path.wire[...slash].text + path
  }

  /// §5.2.4. Each byte is moved once.
  private static func removingDotSegments(_ path: String) -> String {
    var input = Array(path.utf8)[...]
    var output: [UInt8] = []
    output.reserveCapacity(input.count)
    func removeLastSegment() {
      output.removeSubrange((output.lastIndex(of: UInt8(ascii: "/")) ?? 0)...)
    }
    while !input.isEmpty {
      if input.begins(with: "../") {
        input = input.dropFirst(3)
      } else if input.begins(with: "./") || input.begins(with: "/./") {
        input = input.dropFirst(2)
      } else if input.equals("/.") {
        input = [UInt8(ascii: "/")]
      } else if input.begins(with: "/../") {
        input = input.dropFirst(3)
        removeLastSegment()
      } else if input.equals("/..") {
        input = [UInt8(ascii: "/")]
        removeLastSegment()
      } else if input.equals(".") || input.equals("..") {
        input = []
      } else {
        let segment = input.prefix(1) + input.dropFirst().prefix { $0 != UInt8(ascii: "/") }
        output += segment
        input = input.dropFirst(segment.count)
      }
    }
    return output.text
  }
}

extension URIReference: CustomStringConvertible {
  /// As it is written (§5.3).
  package var description: String {
    // A path without an authority can't begin with "//" (§3.3), which dot segments may leave.
    let start = authority.map { "//" + $0 } ?? (path.utf8.begins(with: "//") ? "/." : "")
    return (scheme.map { $0 + ":" } ?? "") + start + path + (query.map { "?" + $0 } ?? "")
      + (fragment.map { "#" + $0 } ?? "")
  }
}
