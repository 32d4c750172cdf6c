import SluiceStreams
import SluiceWebSocketProtocol

extension Message: ExpressibleByStringLiteral, ExpressibleByStringInterpolation {
  /// A text message.
  public init(_ text: String) {
    self.init(kind: .text, bytes: Bytes(text))
  }

  public init(stringLiteral value: String) {
    self.init(value)
  }

  /// A text message.
  public static func text(_ text: String) -> Message { Message(text) }

  /// A text message of bytes that must be UTF-8.
  /// - Throws: `WebSocketError.invalidText` if they are not.
  public static func text(_ bytes: Bytes) throws -> Message {
    guard UTF8Validator.isValid(bytes.span) else { throw WebSocketError.invalidText }
    return Message(kind: .text, bytes: bytes)
  }

  public static func binary(_ bytes: Bytes) -> Message { Message(kind: .binary, bytes: bytes) }

  public var isText: Bool { kind == .text }

  /// The payload as text. What is not valid UTF-8, which only a binary message can hold, becomes U+FFFD.
  public var text: String { bytes.string }
}

extension Message {
  /// The same message in memory of its own size, if it keeps a much larger buffer alive.
  func compacted() -> Message {
    guard bytes.isWasteful else { return self }
    return Message(kind: kind, bytes: bytes.compacted(), isCompressible: isCompressible)
  }
}

extension Message: ByteCounted {
  public var byteCount: Int { bytes.count }
}
