/// Why a WebSocket failed, or what was asked of it that it can't do.
public enum WebSocketError: Error, Sendable {
  /// The peer closed with a code that tells of a failure: see `CloseCode.isCleanEnd`.
  case closed(CloseCode, reason: String)
  /// The connection was lost without a Close frame (1006).
  case connectionLost(underlying: (any Error)?)
  /// The peer broke the protocol or a limit; it was told the code.
  case protocolViolation(WebSocketProtocolError)
  /// The peer did not answer our Close, and took nothing that was sent before it, for this long; the connection was cut.
  case closeTimeout(Duration)
  /// A code that must not be sent: 1000-1003, 1007-1014 and 3000-4999 may be.
  case invalidCloseCode(CloseCode)
  /// A close reason of more than 123 bytes.
  case closeReasonTooLong(byteCount: Int)
  /// A ping of more than 125 bytes.
  case pingTooLong(byteCount: Int)
  /// A text message that is not UTF-8.
  case invalidText
  /// A whole message was to be sent while another one is sent in parts (RFC 6455 §5.4); `write` and `send` wait for its end.
  case insideMessage
  /// The connection closed before the pong came.
  case noPong
  /// What the version of the protocol that the client speaks does not have: a binary message, a ping, a pong.
  case unsupported(String, WebSocketVersion)
  /// Nothing came from the peer for this long after a keepalive ping; the connection was cut.
  case keepaliveTimeout(Duration)
  /// No message was sent or received for this long; the peer was told 1001.
  case idle(Duration)
  /// The peer took nothing of what was to be sent for this long, `stallTimeout`; the connection was cut.
  case stalled(Duration)
  /// An extension could not decode what the peer sent, or encode a message.
  case extensionFailed(underlying: any Error)
}

extension WebSocketError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .closed(let code, let reason):
      reason.isEmpty ? "the peer closed with \(code)" : "the peer closed with \(code): \(reason)"
    case .connectionLost(let underlying?): "connection lost without a Close frame (1006): \(underlying)"
    case .connectionLost: "connection lost without a Close frame (1006)"
    case .protocolViolation(let error): "\(error) (\(error.closeCode.rawValue))"
    case .closeTimeout(let time): "no answer to the Close frame within \(time)"
    case .invalidCloseCode(let code):
      "invalid close code \(code.rawValue) (expected 1000–1003, 1007–1014 or 3000–4999)"
    case .closeReasonTooLong(let count): "close reason too long: \(count) bytes (limit 123)"
    case .pingTooLong(let count): "ping payload too long: \(count) bytes (limit 125)"
    case .invalidText: "the text message is not valid UTF-8"
    case .insideMessage: "can't send a message before the last part of the previous one"
    case .noPong: "the connection closed before the pong arrived"
    case .unsupported(let what, let version):
      "\(version.rawValue), the version of this connection, does not support \(what)"
    case .keepaliveTimeout(let time): "the peer sent nothing for \(time) after a keepalive ping"
    case .idle(let time): "no message was sent or received for \(time)"
    case .stalled(let time): "the peer read nothing for \(time)"
    case .extensionFailed(let error): "an extension failed: \(error)"
    }
  }
}
