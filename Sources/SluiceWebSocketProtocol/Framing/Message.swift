import SluiceStreams

/// One message: text that is valid UTF-8, or binary.
///
/// ```swift
/// let greeting = Message("hello")
/// greeting.text            // "hello"
/// greeting.bytes.count     // 5
/// let reply: Message = "hello, \(name)"
/// ```
public struct Message: Sendable, Hashable {
  public let kind: MessageKind
  /// Whether an extension may compress it; true unless said otherwise. Compression shows, by the length of what is sent, how alike
  /// the parts of a message are: one that holds a secret beside what an attacker chose must not be compressed (RFC 7692 §8,
  /// the BREACH attack). Of no meaning on a message that was received.
  public var isCompressible: Bool
  /// The payload: valid UTF-8, if it is text.
  public let bytes: Bytes

  /// The caller vouches that the bytes of a text are valid UTF-8.
  @inlinable
  package init(kind: MessageKind, bytes: Bytes, isCompressible: Bool = true) {
    self.kind = kind
    self.isCompressible = isCompressible
    self.bytes = bytes
  }
}
