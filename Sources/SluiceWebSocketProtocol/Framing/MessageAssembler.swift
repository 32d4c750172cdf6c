import SluiceStreams

/// A whole message.
public struct AssembledMessage: Sendable, Hashable {
  public var kind: MessageKind
  public var bytes: Bytes

  public init(kind: MessageKind, bytes: Bytes) {
    self.kind = kind
    self.bytes = bytes
  }
}

/// Puts the pieces of a message together, within limits.
///
/// A message that came in one piece passes through uncopied. Others are gathered in a buffer that doubles as bytes
/// arrive, never by a length that was only announced: at the worst it is twice what came.
///
/// ```swift
/// var assembler = MessageAssembler(maxMessageSize: 1 << 20)
/// while case .data(let piece)? = try decoder.next() {
///   if let message = try assembler.append(piece) { handle(message) }
/// }
/// ```
public struct MessageAssembler: ~Copyable, Sendable {
  /// 64 MiB - 1, as in faye-websocket.
  public static let defaultMaxMessageSize = (64 << 20) - 1
  /// 131,072: a message of 64 MiB in frames of 512 bytes.
  public static let defaultMaxFragments = 131_072

  /// Bytes of a message's payload.
  public let maxMessageSize: Int
  /// Frames of a message, empty ones too.
  public let maxFragments: Int
  private var gathered = BytesBuilder()
  private var fragments = 0

  public init(
    maxMessageSize: Int = MessageAssembler.defaultMaxMessageSize,
    maxFragments: Int = MessageAssembler.defaultMaxFragments
  ) {
    self.maxMessageSize = maxMessageSize
    self.maxFragments = maxFragments
  }

  /// Takes the next piece.
  /// - Returns: the message, if the piece ends it.
  /// - Throws: `messageTooBig` as soon as the length that a frame announces goes beyond the limit, before its bytes are
  ///   kept; `tooManyFragments`.
  public mutating func append(_ piece: consuming DataPiece) throws(WebSocketProtocolError) -> AssembledMessage? {
    if piece.isFirst { reset() }
    try check(piece)
    if piece.isFirst && piece.isFinal { return AssembledMessage(kind: piece.kind, bytes: piece.bytes) }
    gathered.append(piece.bytes)
    guard piece.isFinal else { return nil }
    fragments = 0
    return AssembledMessage(kind: piece.kind, bytes: gathered.take())
  }

  /// Drops what came of a message.
  public mutating func reset() {
    fragments = 0
    if gathered.capacity > 0 { gathered = BytesBuilder() }
  }

  private mutating func check(_ piece: borrowing DataPiece) throws(WebSocketProtocolError) {
    let (known, overflows) = (gathered.count + piece.bytes.count).addingReportingOverflow(piece.remainingInFrame)
    if overflows || known > maxMessageSize {
      throw .messageTooBig(limit: maxMessageSize, actual: overflows ? .max : known)
    }
    if piece.startsFrame {
      fragments += 1
      if fragments > maxFragments { throw .tooManyFragments(limit: maxFragments) }
    }
  }
}
