import SluiceStreams

/// What a decoder finds in its input.
public enum FrameEvent<Data> {
  /// A message, or a part of one.
  case data(Data)
  /// To be answered with a pong of the same bytes, at most 125 (RFC 6455 §5.5.2).
  case ping(Bytes)
  case pong(Bytes)
  /// The last event (RFC 6455 §5.5.1). A Close without a code gives nil and "".
  case close(CloseCode?, reason: String)
}

/// A frame that carries the connection's state (RFC 6455 §5.5).
package enum ControlFrame {
  case ping(Bytes)
  case pong(Bytes)
  case close(CloseCode?, reason: String)
}

extension FrameEvent {
  package init(_ control: ControlFrame) {
    switch control {
    case .ping(let payload): self = .ping(payload)
    case .pong(let payload): self = .pong(payload)
    case .close(let code, let reason): self = .close(code, reason: reason)
    }
  }
}

extension FrameEvent: Sendable where Data: Sendable {}
extension FrameEvent: Equatable where Data: Equatable {}
extension FrameEvent: Hashable where Data: Hashable {}

/// A part of a message's payload, handed on as it arrives: a frame comes in one piece or in many.
public struct DataPiece: Sendable, Hashable {
  /// What the message is.
  public var kind: MessageKind
  /// The reserved bits of the message's first frame. Text with any is an extension's to decode, and not checked yet.
  public var reserved: ReservedBits
  /// The payload, unmasked: a slice of the input, or in memory of its own where it was masked. May be empty.
  public var bytes: Bytes
  /// Whether the message begins with this piece.
  public var isFirst: Bool
  /// Whether the message ends with this piece.
  public var isFinal: Bool
  /// Whether a frame begins with this piece.
  public var startsFrame: Bool
  /// Bytes of the frame that are still to come, as its header promised.
  public var remainingInFrame: Int

  public init(
    kind: MessageKind, reserved: ReservedBits = [], bytes: Bytes, isFirst: Bool = true, isFinal: Bool = true,
    startsFrame: Bool = true, remainingInFrame: Int = 0
  ) {
    self.kind = kind
    self.reserved = reserved
    self.bytes = bytes
    self.isFirst = isFirst
    self.isFinal = isFinal
    self.startsFrame = startsFrame
    self.remainingInFrame = remainingInFrame
  }
}
