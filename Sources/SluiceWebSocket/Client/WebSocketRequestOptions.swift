import SluiceHTTP
import SluiceWebSocketProtocol

/// What a client asks for in the opening handshake, and the connection that follows. The way to the server has `WebSocketClientOptions`.
public struct WebSocketRequestOptions: Sendable {
  /// Extensions to offer, the preferred one first: `[PermessageDeflate()]` compresses. Default: none.
  public var extensions: [any WebSocketExtension] = []
  /// Fields that are added to the request. The origin sees them, no proxy does. A Host takes the place of the URL's, which is still what is
  /// connected to and verified, until a redirect leads to another origin.
  public var headers: Headers = [:]
  /// Time for the handshake, from the request to the answer; within the time for all of a connection's steps where there are others. Default: 10 seconds.
  public var handshakeTimeout: Duration = .seconds(10)
  /// Limits of the response head. Default: 16 KiB, 100 fields.
  public var headLimits = HeadLimits()
  /// Limits and times of the connection.
  public var connection = WebSocketOptions()

  public init() {}
}
