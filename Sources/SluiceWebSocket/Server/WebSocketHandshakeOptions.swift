import HTTPTypes
import SluiceHTTP
import SluiceWebSocketProtocol

/// What a server agrees to in a handshake, and the connection that follows: all that a route of an `HTTPServer` has to say. What that stands on has
/// `HTTPServerOptions`, or for a server of its own, `WebSocketServerOptions`.
public struct WebSocketHandshakeOptions: Sendable {
  /// Subprotocols that the server speaks, the preferred one first. The first that a client offers is agreed upon.
  public var protocols: [String] = []
  /// Chooses the subprotocol instead: one of those that the client offers, which are passed in its order, or nil. Called on the
  /// connection's loop: it must not block.
  public var chooseProtocol: (@Sendable (HTTPRequest, [String]) -> String?)?
  /// Extensions that the server agrees to, the preferred one first: `[PermessageDeflate()]` compresses. Default: none.
  public var extensions: [any WebSocketExtension] = []
  /// Versions of the protocol that are spoken. Others are answered with 426 and the list of these. Default: all.
  public var versions = Set(WebSocketVersion.allCases)
  /// Which web pages may connect; others are answered with 403. Default: those of the host that is asked.
  public var origins = OriginPolicy.sameOrigin
  /// Looks at a request before it is accepted. What it returns is added to the 101 response; a `RequestRejection` that it
  /// throws is the answer instead, and any other error is answered with 500. Called on the connection's loop: it must not block.
  public var onRequest: @Sendable (HTTPRequest) throws -> Headers = { _ in [:] }
  /// Time for the handshake, however slowly it comes: from the accepted connection, or from the request's head where another server has read that. Default:
  /// 10 seconds.
  public var handshakeTimeout: Duration = .seconds(10)
  /// Limits and times of each connection.
  public var connection = WebSocketOptions()

  public init() {}
}
