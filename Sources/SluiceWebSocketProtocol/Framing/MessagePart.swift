import SluiceStreams

/// A part of a message.
public struct MessagePart: Sendable, Hashable {
  /// What the message is.
  public var kind: MessageKind
  public var bytes: Bytes
  /// Whether the message ends with this part.
  public var isFinal: Bool
  /// As a message's; that of the first part counts.
  public var isCompressible: Bool

  public init(kind: MessageKind, bytes: Bytes, isFinal: Bool, isCompressible: Bool = true) {
    self.kind = kind
    self.bytes = bytes
    self.isFinal = isFinal
    self.isCompressible = isCompressible
  }
}

extension MessagePart: ByteCounted {
  public var byteCount: Int { bytes.count }
}

/// A message that is being sent in parts. What the first one says of its kind counts for all.
package struct PartSending {
  package let kind: MessageKind
  private var text = UTF8Validator()

  package init(kind: MessageKind) { self.kind = kind }

  /// RFC 6455 §5.6: the parts of a text are valid UTF-8 together.
  package mutating func check(_ part: borrowing MessagePart) throws {
    guard kind == .text else { return }
    guard text.consume(part.bytes.span), !part.isFinal || text.isComplete else {
      throw WebSocketError.invalidText
    }
  }
}
