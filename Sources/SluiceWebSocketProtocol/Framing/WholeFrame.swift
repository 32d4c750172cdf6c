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
  ///   - start: What is added to a position to make it an index. Default: 0.
  @inlinable
  @inline(__always)
  package init?(_ input: Span<UInt8>, at position: Int, start: Int = 0, isMasked: Bool, limit: Int) {
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

extension FrameDecoder {
  /// Whether a message begins with the next byte, so that whole frames may be taken without decoding them.
  @inlinable
  package var isBetweenMessages: Bool {
    guard case .header = state, case .betweenMessages = fragmentation else { return false }
    return true
  }

  /// Has `body` take whole frames from what was fed and not decoded yet: it gets that, and gives the number of bytes that it took.
  @inlinable
  package mutating func take(_ body: (Span<UInt8>) -> Int) {
    guard isBetweenMessages else { return }
    position += body(input.span.extracting((position - input.startIndex)...))
  }

  /// The next frame, if it is a whole message: text or binary, FIN, no reserved bits, at most `limit` bytes, and all of
  /// it in the input. `message(of:)` unmasks and checks it.
  /// - Returns: nil when the next frame, or the lack of one, is for `next()` to tell.
  @inlinable
  package mutating func nextWhole(limit: Int) -> WholeFrame? {
    guard isBetweenMessages else { return nil }
    let start = input.startIndex
    let isMasked = parser.role == .server
    guard let frame = WholeFrame(input.span, at: position &- start, start: start, isMasked: isMasked, limit: limit)
    else { return nil }
    position = frame.payload.upperBound
    return frame
  }

  /// The payload unmasked, and checked if it is text: what `next()` would have given.
  /// - Throws: `invalidText` or `truncatedText`, and again at every later call of `next()`.
  package mutating func message(of frame: WholeFrame) throws(WebSocketProtocolError) -> Bytes {
    let bytes = unmask(frame.payload, frame.maskingKey)
    if frame.kind == .text {
      do { try check(bytes.span, endsMessage: true) } catch {
        fail(error)
        throw error
      }
    }
    return bytes
  }
}
