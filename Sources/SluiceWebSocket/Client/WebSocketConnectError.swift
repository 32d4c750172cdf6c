import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

/// Why there is no WebSocket. A failure of the network is an `IOError` instead.
public enum WebSocketConnectError: Error, Hashable, Sendable {
  /// The server's answer is not the end of an opening handshake; `refused` has its status and headers.
  case handshake(ClientHandshakeError)
  /// The server's answer is not HTTP, or beyond a limit.
  case malformedResponse(HTTPHeadError)
  /// The connection ended before the answer did.
  case endedEarly
  /// The handshake was not done in time.
  case timeout(Duration)
}

extension WebSocketConnectError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .handshake(let error): error.description
    case .malformedResponse(let error): "the server's answer to the handshake is malformed: \(error)"
    case .endedEarly: "the server ended the connection before it had answered the handshake"
    case .timeout(let time): "the server did not answer the handshake within \(time)"
    }
  }
}
