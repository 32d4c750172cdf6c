import SluiceStreams

/// A part of a message.
public struct Fragment: Sendable, Hashable {
  /// What the message is.
  public var kind: MessageKind
  public var bytes: Bytes
  /// Whether the message ends with this fragment.
  public var isFinal: Bool
  /// As a message's; that of the first fragment counts.
  public var isCompressible: Bool

  public init(kind: MessageKind, bytes: Bytes, isFinal: Bool, isCompressible: Bool = true) {
    self.kind = kind
    self.bytes = bytes
    self.isFinal = isFinal
    self.isCompressible = isCompressible
  }
}

extension Fragment: ByteCounted {
  public var byteCount: Int { bytes.count }
}

/// A message that is being sent in fragments. What the first one says of its kind counts for all.
package struct FragmentSending {
  package let kind: MessageKind
  private var text = UTF8Validator()

  package init(kind: MessageKind) { self.kind = kind }

  /// RFC 6455 §5.6: the fragments of a text are valid UTF-8 together.
  package mutating func check(_ fragment: borrowing Fragment) throws {
    guard kind == .text else { return }
    guard text.consume(fragment.bytes.span), !fragment.isFinal || text.isComplete else {
      throw WebSocketError.invalidText
    }
  }
}
