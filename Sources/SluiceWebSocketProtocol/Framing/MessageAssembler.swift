import SluiceStreams

/// Puts the pieces of a message together, within limits.
///
/// A message that came in one piece passes through uncopied. Others are gathered in a buffer that doubles as bytes
/// arrive, never by a length that was only announced: at the worst it is twice what came.
///
/// ```swift
/// var assembler = MessageAssembler(maxMessageSize: 1 << 20)
/// while case .data(let piece)? = try decoder.next(in: &input) {
///   if let message = try assembler.append(piece) { handle(message) }
/// }
/// ```
/// As a decoder's sink it has no pieces made: a message is unmasked straight to where it is gathered.
@safe public struct MessageAssembler: ~Copyable, Sendable {
  /// 64 MiB - 1, as in faye-websocket.
  public static let defaultMaxMessageSize = (64 << 20) - 1
  /// 131,072: a message of 64 MiB in frames of 512 bytes.
  public static let defaultMaxFragments = 131_072

  /// Bytes of a message's payload.
  public let maxMessageSize: Int
  /// Frames of a message, empty ones too.
  public var maxFragments: Int { Int(fragmentLimit) }
  private let fragmentLimit: Int32
  /// The frames so far of the message under way.
  @usableFromInline var fragments: Int32 = 0
  /// What came of it.
  var gathered = BytesBuilder()
  /// What small messages take memory from, where there is a loop that has some. Who runs the assembler holds it: counting it for each message would
  /// cost 49 instructions.
  let scratch: Unmanaged<ScratchBuffers>?

  /// Bytes of an announced frame that memory is reserved for before they arrive.
  private static let reservedAhead = 1 << 20

  public init(
    maxMessageSize: Int = MessageAssembler.defaultMaxMessageSize,
    maxFragments: Int = MessageAssembler.defaultMaxFragments
  ) {
    self.init(maxMessageSize: maxMessageSize, maxFragments: maxFragments, scratch: nil)
  }

  package init(maxMessageSize: Int, maxFragments: Int, scratch: ScratchBuffers?) {
    self.maxMessageSize = maxMessageSize
    fragmentLimit = Int32(clamping: maxFragments)
    unsafe self.scratch = scratch.map { unsafe Unmanaged.passUnretained($0) }
  }

  /// Takes the next piece.
  /// - Returns: the message, if the piece ends it.
  /// - Throws: `messageTooBig` as soon as the length that a frame announces goes beyond the limit, before its bytes are
  ///   kept; `tooManyFragments`.
  @inlinable
  public mutating func append(_ piece: consuming DataPiece) throws(WebSocketProtocolError) -> Message? {
    if piece.isFirst && piece.isFinal && fragments == 0 && piece.bytes.count <= maxMessageSize {
      return Message(kind: piece.kind, bytes: piece.bytes)
    }
    return try gather(piece)
  }

  @usableFromInline
  mutating func gather(_ piece: borrowing DataPiece) throws(WebSocketProtocolError) -> Message? {
    if piece.isFirst { reset() }
    try admit(piece.bytes.count, remainingInFrame: piece.remainingInFrame, startsFrame: piece.startsFrame)
    // Room for the rest of the frame at once, if it is moderate; what is only announced costs no resident memory.
    let rest = piece.bytes.count + min(piece.remainingInFrame, max(Self.reservedAhead, gathered.count))
    gathered.reserve(rest)
    gathered.append(piece.bytes)
    return piece.isFinal ? take(piece.kind) : nil
  }

  /// Checks what is to be kept against the limits, before it is.
  private mutating func admit(
    _ count: Int, remainingInFrame: Int, startsFrame: Bool
  ) throws(WebSocketProtocolError) {
    let (known, overflows) = (gathered.count + count).addingReportingOverflow(remainingInFrame)
    if overflows || known > maxMessageSize {
      throw .messageTooBig(limit: maxMessageSize, actual: overflows ? .max : known)
    }
    if startsFrame {
      if fragments >= fragmentLimit { throw .tooManyFragments(limit: maxFragments) }
      fragments += 1
    }
  }

  /// The message whose last piece was gathered.
  private mutating func take(_ kind: MessageKind) -> Message {
    fragments = 0
    return Message(kind: kind, bytes: gathered.take())
  }

  /// Drops what came of a message.
  public mutating func reset() {
    fragments = 0
    if gathered.capacity > 0 { gathered = BytesBuilder() }
  }
}

extension MessageAssembler: MessageSink {
  static var takesParts: Bool { true }
  var wholeFrameLimit: Int { maxMessageSize }
  var hasRoom: Bool { true }

  @inline(__always)
  mutating func begin(_ part: DataPart, canSlice: Bool) throws(WebSocketProtocolError) -> Void? {
    guard part.isFirst, part.isFinal, gathered.capacity == 0, part.count <= maxMessageSize else {
      try beginGathering(
        part.count, remainingInFrame: part.remainingInFrame, startsFrame: part.startsFrame,
        isFirst: part.isFirst)
      return ()
    }
    fragments = 0
    if canSlice { return nil }
    let count = part.count
    if count > 0, let scratch = unsafe scratch {
      unsafe scratch._withUnsafeGuaranteedRef { gathered = $0.takeForMessage(count) }
    } else {
      gathered = BytesBuilder(capacity: count)
    }
    return ()
  }

  @inline(never)
  private mutating func beginGathering(
    _ count: Int, remainingInFrame: Int, startsFrame: Bool, isFirst: Bool
  ) throws(WebSocketProtocolError) {
    if isFirst { reset() }
    try admit(count, remainingInFrame: remainingInFrame, startsFrame: startsFrame)
  }

  @inline(__always)
  mutating func withMemory(_ body: (inout BytesBuilder) -> Bool) -> Bool { body(&gathered) }

  @inline(__always)
  mutating func end(_ part: DataPart, _ mark: Void) -> Message? { part.isFinal ? take(part.kind) : nil }

  @inline(__always)
  mutating func end(_ part: DataPart, slice: Bytes) -> Message? {
    Message(kind: part.kind, bytes: slice)
  }

  mutating func drop(_ mark: Void) { reset() }
}

extension FrameDecoder {
  /// Takes the next message from the front of the input, put together.
  /// - Throws: also which limit of the assembler was passed.
  @inline(__always)
  package mutating func nextMessage(
    in input: inout Bytes, assembling messages: inout MessageAssembler, _ message: inout Message?
  ) throws(WebSocketProtocolError) -> DecoderStop {
    try next(in: &input, into: &messages, &message)
  }

  /// The same on bytes that are only lent, so that what is not masked is copied too.
  /// - Parameter position: Where in the input to begin, 0 to `input.count`; where to go on, afterwards.
  package mutating func nextMessage(
    in input: Span<UInt8>, from position: inout Int, assembling messages: inout MessageAssembler,
    _ message: inout Message?
  ) throws(WebSocketProtocolError) -> DecoderStop {
    try decode(input, from: &position, of: nil, into: &messages, &message)
  }
}
