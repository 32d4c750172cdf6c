import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceWebSocketProtocol

/// How a client connects.
public struct WebSocketClientOptions: Sendable {
  /// Extensions to offer, the preferred one first: `[PermessageDeflate()]` compresses. Default: none.
  public var extensions: [any WebSocketExtension] = []
  /// Fields that are added to the request.
  public var headers: Headers = [:]
  /// Time for all of it: name resolution, connection and handshake. Default: 10 seconds.
  public var connectTimeout: Duration = .seconds(10)
  /// Limits of the response head. Default: 16 KiB, 100 fields.
  public var headLimits = HeadLimits()
  /// Limits and times of the connection.
  public var connection = WebSocketOptions()
  /// Options of the socket.
  public var tcp = TCP.Options()

  public init() {}
}
