import SluiceStreams

/// What a decoder's payloads become.
///
/// For each part of a message the decoder calls `begin`; unmasks the payload to the end of the sink's memory, or slices it from the input, and
/// checks it if it is text; and calls `end`, or `drop` if it is not UTF-8.
protocol MessageSink: ~Copyable {
  /// What `end` gives at the end of a message, or of a part.
  associatedtype Element
  /// What `begin` has to remember.
  associatedtype Mark

  /// Whether it takes parts of messages, and the decoder control frames. If not, the decoder stops before anything but a whole message.
  static var takesParts: Bool { get }
  /// Bytes of a message in a single frame that is there as a whole: a longer one comes as a part of one, or not at all.
  var wholeFrameLimit: Int { get }
  /// Whether the decoder is to go on.
  var hasRoom: Bool { get }

  /// - Parameter canSlice: Whether the payload lies unmasked in bytes that may be kept.
  /// - Returns: nil if a slice of them is wanted rather than a copy.
  /// - Throws: which limit is passed.
  mutating func begin(_ part: DataPart, canSlice: Bool) throws(WebSocketProtocolError) -> Mark?

  /// Where payloads are copied to.
  mutating func withMemory(_ body: (inout BytesBuilder) -> Bool) -> Bool

  /// The payload is in memory.
  mutating func end(_ part: DataPart, _ mark: Mark) -> Element?
  mutating func end(_ part: DataPart, slice: Bytes) -> Element?

  /// What was begun is not UTF-8: forgets it.
  mutating func drop(_ mark: Mark)
}

/// What lies in an input of a data frame's payload.
struct DataPart {
  /// What the message is.
  let kind: MessageKind
  /// The reserved bits of the message's first frame.
  let reserved: ReservedBits
  /// What the payload is masked with, from its first byte on; nil when it lies there as it is.
  let maskingKey: MaskingKey?
  /// Where it lies in the input.
  let payload: Range<Int>
  /// Whether the message begins with this part.
  let isFirst: Bool
  /// Whether the message ends with this part.
  let isFinal: Bool
  /// Whether a frame begins with this part.
  let startsFrame: Bool
  /// Bytes of the frame that are still to come, as its header promised.
  let remainingInFrame: Int

  /// Bytes of the payload.
  @inline(__always)
  var count: Int { payload.upperBound &- payload.lowerBound }

  /// Text that an extension encoded is checked when it is decoded.
  @inline(__always)
  var isCheckedText: Bool { kind == .text && reserved.isEmpty }
}

extension DataPart {
  /// The frame that begins at `position` of `input`, if it is text or binary, with FIN and without reserved bits, masked
  /// as it must be, of minimal length and at most `limit` bytes, and complete. What is not, or breaks a rule, is for `FrameHeaderParser` to tell.
  /// - Parameter position: 0 to `input.count`.
  @inline(__always)
  init?(wholeFrameOf input: Span<UInt8>, at position: Int, isMasked: Bool, limit: Int) {
    let available = input.count &- position
    guard position >= 0, available >= (isMasked ? 6 : 2) else { return nil }
    let first = unsafe input[unchecked: position] &- 0x81
    guard first <= 1 else { return nil }
    kind = first == 0 ? .text : .binary
    // Without the mask bit, if it is as it must be.
    let second = unsafe input[unchecked: position &+ 1] ^ (isMasked ? 0x80 : 0)
    guard second <= 127 else { return nil }
    var length = Int(second)
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
    let start = position &+ headerLength
    payload = unsafe Range(uncheckedBounds: (start, start &+ length))
    (reserved, isFirst, isFinal, startsFrame, remainingInFrame) = ([], true, true, true, 0)
  }

  /// A length of 2 or 8 bytes, if it is there and minimal.
  private static func extendedLength(_ input: Span<UInt8>, at position: Int, _ available: Int) -> Int? {
    let lengthBytes = input[position + 1] & 0x7F == 126 ? 2 : 8
    guard available >= 2 + lengthBytes else { return nil }
    var number: UInt64 = 0
    for index in 0..<lengthBytes { number = number &<< 8 | UInt64(input[position + 2 + index]) }
    guard number > (lengthBytes == 2 ? 125 : 0xFFFF) else { return nil }
    return Int(exactly: number)
  }
}

/// Gives every part of a message as a piece of its own.
struct PieceSink: ~Copyable, MessageSink {
  /// What small pieces take memory from, where there is a loop that has some.
  private let scratch: ScratchBuffers?
  private var memory = BytesBuilder()

  init(scratch: ScratchBuffers?) { self.scratch = scratch }

  static var takesParts: Bool { true }
  var wholeFrameLimit: Int { .max }
  var hasRoom: Bool { true }

  mutating func begin(_ part: DataPart, canSlice: Bool) throws(WebSocketProtocolError) -> Void? {
    if canSlice { return nil }
    memory = .forMessage(part.count, from: scratch)
    return ()
  }

  mutating func withMemory(_ body: (inout BytesBuilder) -> Bool) -> Bool { body(&memory) }

  mutating func end(_ part: DataPart, _ mark: Void) -> DataPiece? { end(part, slice: memory.take()) }

  mutating func end(_ part: DataPart, slice: Bytes) -> DataPiece? {
    DataPiece(
      kind: part.kind, reserved: part.reserved, bytes: slice, isFirst: part.isFirst,
      isFinal: part.isFinal, startsFrame: part.startsFrame, remainingInFrame: part.remainingInFrame)
  }

  mutating func drop(_ mark: Void) { memory = BytesBuilder() }
}

extension FrameDecoder {
  /// Takes the next part of a message from the front of the input.
  package mutating func nextPiece(
    in input: inout Bytes, _ piece: inout DataPiece?, scratch: ScratchBuffers? = nil
  ) throws(WebSocketProtocolError) -> DecoderStop {
    var pieces = PieceSink(scratch: scratch)
    return try next(in: &input, into: &pieces, &piece)
  }
}

extension BytesBuilder {
  /// Memory for a message of so many bytes.
  @inline(__always)
  static func forMessage(_ count: Int, from scratch: ScratchBuffers?) -> BytesBuilder {
    if count > 0, let scratch { return scratch.takeForMessage(count) }
    return BytesBuilder(capacity: count)
  }
}
