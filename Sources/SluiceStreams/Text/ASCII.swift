/// The classes of bytes that the texts of protocols are made of (RFC 9110 §5.6).
///
/// Text from the wire is bytes, and what has a meaning in it is ASCII. `Character` is the wrong unit there: to it U+212A (the Kelvin sign) is the
/// letter K, U+037E is a semicolon, and a combining mark makes the comma or the quote before it another character. So wire code asks here and in
/// `WireText`; `scripts/lint` forbids it what `String` and `Character` would say.
@usableFromInline
package enum ASCII {
  @inlinable
  package static func isDigit(_ byte: UInt8) -> Bool { byte &- UInt8(ascii: "0") < 10 }

  @inlinable
  package static func isLetter(_ byte: UInt8) -> Bool { (byte | 0x20) &- UInt8(ascii: "a") < 26 }

  /// SP or HTAB: all that there is of optional white space (§5.6.3).
  @inlinable
  package static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

  /// A character of a token (§5.6.2): method, field name, coding, subprotocol, extension.
  @inlinable
  package static func isTokenCharacter(_ byte: UInt8) -> Bool {
    if isLetter(byte) || isDigit(byte) { return true }
    switch byte {
    case UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "%"), UInt8(ascii: "&"),
      UInt8(ascii: "'"), UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."),
      UInt8(ascii: "^"), UInt8(ascii: "_"), UInt8(ascii: "`"), UInt8(ascii: "|"), UInt8(ascii: "~"):
      return true
    default: return false
    }
  }

  /// The value of a hexadecimal digit; nil if it is not one.
  @inlinable
  package static func hexDigit(_ byte: UInt8) -> UInt8? {
    if isDigit(byte) { return byte - UInt8(ascii: "0") }
    let letter = (byte | 0x20) &- UInt8(ascii: "a")
    return letter < 6 ? letter + 10 : nil
  }

  /// A capital letter's small one; anything else itself.
  @inlinable
  package static func lowercased(_ byte: UInt8) -> UInt8 {
    byte &- UInt8(ascii: "A") < 26 ? byte | 0x20 : byte
  }

  @inlinable
  package static func uppercased(_ byte: UInt8) -> UInt8 {
    byte &- UInt8(ascii: "a") < 26 ? byte & ~0x20 : byte
  }
}
