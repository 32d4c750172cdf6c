import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

/// Why a WebSocket could not be opened. A failure of the network is an `IOError` instead, of TLS a `TLSError`, of the
/// way there a `ConnectError`.
public enum WebSocketConnectError: Error, Hashable, Sendable {
  /// The server's answer is not the end of an opening handshake; `refused` has its status and headers.
  case handshake(ClientHandshakeError)
  /// The server's answer is not HTTP, or beyond a limit.
  case malformedResponse(HTTPHeadError)
  /// The connection ended before the answer did.
  case endedEarly
  /// The handshake was not done in time.
  case timeout(Duration)
  /// A redirect that is not followed, and why.
  case redirect(String)
}

extension WebSocketConnectError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .handshake(let error): error.description
    case .malformedResponse(let error): "malformed handshake response from the server: \(error)"
    case .endedEarly: "the server closed the connection during the handshake"
    case .redirect(let reason): "redirect not followed: \(reason)"
    case .timeout(let time): "no handshake response within \(time)"
    }
  }
}
