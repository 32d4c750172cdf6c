import SluiceStreams

/// The character classes of RFC 9110 §5.6.
package enum HTTPSyntax {
  /// A character of a token (§5.6.2): method, field name, subprotocol, extension.
  package static func isTokenCharacter(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"):
      true
    case UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "%"), UInt8(ascii: "&"),
      UInt8(ascii: "'"), UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."),
      UInt8(ascii: "^"), UInt8(ascii: "_"), UInt8(ascii: "`"), UInt8(ascii: "|"), UInt8(ascii: "~"):
      true
    default: false
    }
  }

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
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"):
      true
    default: "-._~!$&'()*+,;=%".utf8.contains(byte)
    }
  }

  /// A host that is not empty, and perhaps a port (RFC 9110 §7.2), without user and password.
  static func isAuthority(_ text: String) -> Bool {
    var rest = text.utf8[...]
    if rest.first == UInt8(ascii: "[") {
      guard let end = rest.firstIndex(of: UInt8(ascii: "]")) else { return false }
      let address = rest[..<end].dropFirst()
      guard !address.isEmpty, address.allSatisfy({ "0123456789abcdefABCDEF:.".utf8.contains($0) }) else { return false }
      rest = rest[end...].dropFirst()
    } else {
      let host = rest.prefix(while: isHostCharacter)
      if host.isEmpty { return false }
      rest = rest[host.endIndex...]
    }
    guard let colon = rest.popFirst() else { return true }
    return colon == UInt8(ascii: ":") && rest.allSatisfy { (0x30...0x39).contains($0) }
  }

  package static func isToken(_ text: some Collection<UInt8>) -> Bool {
    !text.isEmpty && text.allSatisfy(isTokenCharacter)
  }

  package static func isToken(_ text: String) -> Bool { isToken(text.utf8) }

  package static func isValue(_ text: String) -> Bool { text.utf8.allSatisfy(isValueCharacter) }

  static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

  /// Without the white space at both ends.
  static func trimmed(_ bytes: Bytes) -> Bytes {
    var rest = bytes
    while let first = rest.first, isBlank(first) { rest = rest.dropFirst() }
    while let last = rest.last, isBlank(last) { rest = rest.dropLast() }
    return rest
  }

  /// The elements of a comma-separated list of tokens (§5.6.1), in order. Empty elements are passed over.
  /// - Returns: nil if an element is not a token.
  package static func tokens(in values: some Sequence<String>) -> [String]? {
    var tokens: [String] = []
    for value in values {
      for element in value.utf8.split(separator: UInt8(ascii: ",")) {
        let token = trimmed(Bytes(element))
        if token.isEmpty { continue }
        guard isToken(token) else { return nil }
        tokens.append(token.string)
      }
    }
    return tokens
  }
}
