import HTTPTypes
import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceWebSocketProtocol

/// How a server takes connections.
public struct WebSocketServerOptions: Sendable {
  /// Subprotocols that the server speaks, the preferred one first. The first that a client offers is agreed upon.
  public var protocols: [String] = []
  /// Time from the accepted connection to the end of its handshake, however slowly it comes. Default: 10 seconds.
  public var handshakeTimeout: Duration = .seconds(10)
  /// Limits of the request head. Default: 16 KiB, 100 fields.
  public var headLimits = HeadLimits()
  /// Looks at a request before it is accepted. What it returns is added to the 101 response; a `HandshakeRejection` that it
  /// throws is the answer instead, and any other error is answered with 500. Called on the connection's loop: it must not block.
  public var onRequest: @Sendable (HTTPRequest) throws -> Headers = { _ in [:] }
  /// Limits and times of each connection.
  public var connection = WebSocketOptions()
  /// Options of the sockets.
  public var tcp = TCP.Options()
  /// Connections that may wait to be accepted. Default: 1024.
  public var backlog = 1024
  /// Loops that serve, 1 or more, each a thread that shares the port. Default: 1, the shared loop.
  public var loops = 1

  public init() {}
}
