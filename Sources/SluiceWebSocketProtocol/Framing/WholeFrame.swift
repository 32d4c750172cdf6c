import SluiceStreams

/// A message's only frame, that lies complete in a decoder's input and was not touched yet.
@usableFromInline
package struct WholeFrame: Sendable {
  @usableFromInline package let kind: MessageKind
  /// What the payload is masked with; nil when it lies there as it is.
  @usableFromInline package let maskingKey: MaskingKey?
  /// Where the payload lies, by the indices of the decoder's `input`.
  @usableFromInline package let payload: Range<Int>

  /// The frame that begins at `position` of `input`, if it is text or binary, with FIN and without reserved bits, masked
  /// as it must be, of minimal length and at most `limit` bytes, and complete.
  /// - Parameters:
  ///   - position: 0 to `input.count`.
  ///   - start: What is added to a position to make it an index.
  @inlinable
  @inline(__always)
  init?(_ input: Span<UInt8>, at position: Int, start: Int, isMasked: Bool, limit: Int) {
    let available = input.count &- position
    guard available >= 2 else { return nil }
    switch input[position] {
    case 0x81: kind = .text
    case 0x82: kind = .binary
    default: return nil
    }
    let second = input[position &+ 1]
    guard (second & 0x80 != 0) == isMasked else { return nil }
    var length = Int(second & 0x7F)
    var headerLength = 2
    if length > 125 {
      guard let extended = Self.extendedLength(input, at: position, available) else { return nil }
      length = extended
      headerLength = length <= 0xFFFF ? 4 : 10
    }
    if isMasked {
      guard available >= headerLength &+ 4 else { return nil }
      maskingKey = MaskingKey(input, at: position &+ headerLength)
      headerLength &+= 4
    } else {
      maskingKey = nil
    }
    guard length <= available &- headerLength, length <= limit else { return nil }
    let first = start &+ position &+ headerLength
    payload = first..<first &+ length
  }

  /// A length of 2 or 8 bytes, if it is there and minimal.
  @usableFromInline
  static func extendedLength(_ input: Span<UInt8>, at position: Int, _ available: Int) -> Int? {
    let lengthBytes = input[position + 1] & 0x7F == 126 ? 2 : 8
    guard available >= 2 + lengthBytes else { return nil }
    var number: UInt64 = 0
    for index in 0..<lengthBytes { number = number &<< 8 | UInt64(input[position + 2 + index]) }
    guard number > (lengthBytes == 2 ? 125 : 0xFFFF) else { return nil }
    return Int(exactly: number)
  }
}
