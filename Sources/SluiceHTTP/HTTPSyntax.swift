import SluiceStreams

/// What HTTP allows where, beside the classes of `ASCII`.
package enum HTTPSyntax {
  /// A character of a field value (§5.5): visible ASCII, space, tab, and what is beyond ASCII.
  package static func isValueCharacter(_ byte: UInt8) -> Bool {
    byte == 0x09 || (byte >= 0x20 && byte != 0x7F)
  }

  /// A character of a request target: visible ASCII (RFC 9112 §3.2).
  package static func isTargetCharacter(_ byte: UInt8) -> Bool {
    byte > 0x20 && byte < 0x7F
  }

  /// RFC 3986 §3.2.2: unreserved, sub-delims and percent-encoded characters.
  static func isHostCharacter(_ byte: UInt8) -> Bool {
    ASCII.isLetter(byte) || ASCII.isDigit(byte) || "-._~!$&'()*+,;=%".utf8.contains(byte)
  }

  static func isIPv6Character(_ byte: UInt8) -> Bool {
    ASCII.hexDigit(byte) != nil || byte == UInt8(ascii: ":") || byte == UInt8(ascii: ".")
  }

  /// A host that is not empty, and perhaps a port (RFC 9110 §7.2), without user and password.
  package static func isAuthority(_ text: String) -> Bool {
    var rest = text.utf8[...]
    if rest.first == UInt8(ascii: "[") {
      guard let end = rest.firstIndex(of: UInt8(ascii: "]")) else { return false }
      let address = rest[..<end].dropFirst()
      guard !address.isEmpty, address.allSatisfy(isIPv6Character) else { return false }
      rest = rest[end...].dropFirst()
    } else {
      let host = rest.prefix(while: isHostCharacter)
      if host.isEmpty { return false }
      rest = rest[host.endIndex...]
    }
    guard let colon = rest.popFirst() else { return true }
    return colon == UInt8(ascii: ":") && rest.allSatisfy(ASCII.isDigit)
  }

  package static func isValue(_ text: String) -> Bool { text.utf8.allSatisfy(isValueCharacter) }

  /// The elements of a list of tokens.
  /// - Returns: nil if an element is not a token.
  package static func tokens(in values: some Sequence<String>) -> [String]? {
    let elements = values.listElements
    return elements.allSatisfy(\.isToken) ? elements.map(\.text) : nil
  }
}
