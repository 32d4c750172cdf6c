import HTTPTypes
import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

/// Where a connection is in its life, with the numbers of the WHATWG standard.
public enum ReadyState: Int, Sendable {
  case connecting = 0
  case open = 1
  case closing = 2
  case closed = 3
}

extension WebSocket {
  /// The URL that was connected to, or that the client asked for.
  public var url: String { opening.url }

  /// The subprotocol agreed upon, or "".
  public var `protocol`: String { opening.subprotocol ?? "" }

  /// On a server: the request that opened the connection, with its path and headers. nil on a client.
  public var request: HTTPRequest? { opening.request }

  /// On a server: what a command that serves this connection is told of it. None on a client.
  public var cgiVariables: CGIVariables {
    get async { await onLoop { $0.currentVariables } }
  }

  /// The headers of the peer's handshake: the response's on a client, the request's on a server.
  public var headers: HTTPFields { opening.response?.headerFields ?? opening.request?.headerFields ?? [:] }

  /// The status of the response on a client: 101. nil on a server.
  public var statusCode: Int? { opening.response?.status.code }

  /// The version of the protocol: "hybi-13" is RFC 6455; a server may meet "hybi-8", "hybi-7", "hixie-76" and "hixie-75".
  public var version: String { opening.version.rawValue }

  public var readyState: ReadyState {
    get async { await onLoop { $0.currentReadyState } }
  }

  /// Bytes that were sent and that the system has not taken yet, frame headers included.
  public var bufferedAmount: Int {
    get async { await onLoop { $0.queuedByteCount } }
  }

  /// The code and reason of the peer's Close; 1005 if it had none, nil while none has come.
  public var closeStatus: (code: CloseCode, reason: String)? {
    get async { await onLoop { $0.received.map { ($0.code, $0.reason) } } }
  }

  /// The code and reason of our own Close; 1005 if it has none, nil while none was sent.
  public var sentCloseStatus: (code: CloseCode, reason: String)? {
    get async {
      await onLoop { socket in
        guard case .closed(let code, let reason) = socket.writeState else { return nil }
        return (code, reason)
      }
    }
  }

  private var currentVariables: CGIVariables {
    guard let request else { return CGIVariables() }
    var variables = CGIVariables(request)
    variables.add(transport, from: remoteAddress)
    if remoteAddress == nil { variables.removeRemoteAddress() }
    return variables
  }

  private var currentReadyState: ReadyState {
    switch (readState, writeState) {
    case (.open, .open): .open
    case (.failed, .failed): .closed
    default:
      switch closing {
      case .lingering, .done: .closed
      case .none, .waiting: .closing
      }
    }
  }

  /// How the reading has ended, as an error whatever the code is; lost, if it has not.
  package var loss: any Error {
    switch readState {
    case .closed(let close): WebSocketError.closed(close.code, reason: close.reason)
    case .failed(let error): error
    case .open: WebSocketError.connectionLost(underlying: nil)
    }
  }

  package func onLoop<R: Sendable>(_ body: @escaping @Sendable (WebSocket) -> R) async -> R {
    if loop.isCurrent { return body(self) }
    return await withCheckedContinuation { continuation in
      loop.execute { continuation.resume(returning: body(self)) }
    }
  }
}
