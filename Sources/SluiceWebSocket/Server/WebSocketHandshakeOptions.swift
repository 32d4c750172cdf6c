import HTTPTypes
import SluiceHTTP
import SluiceWebSocketProtocol

/// What a server accepts in a handshake, and the limits of the connection that follows: all that a route of an `HTTPServer` can set. What is beneath
/// is set by `HTTPServerOptions`, or for a WebSocket server by `WebSocketServerOptions`.
public struct WebSocketHandshakeOptions: Sendable {
  /// Supported subprotocols, the preferred one first. The first one that a client offers is selected.
  public var protocols: [String] = []
  /// Chooses the subprotocol instead: one of those that the client offers, which are passed in its order, or nil. Called on the
  /// connection's loop: it must not block.
  public var chooseProtocol: (@Sendable (HTTPRequest, [String]) -> String?)?
  /// Supported extensions, the preferred one first: `[PermessageDeflate()]` compresses. Default: none.
  public var extensions: [any WebSocketExtension] = []
  /// Supported versions of the protocol. Others are answered with 426 and a list of these. Default: all.
  public var versions = Set(WebSocketVersion.allCases)
  /// Which web pages may connect; others are answered with 403. Default: those of the requested host.
  public var origins = OriginPolicy.sameOrigin
  /// Looks at a request before it is accepted, for as long as `handshakeTimeout` lets it: asks who it is, connects to where it leads. A
  /// `RequestRejection` that it throws is the answer, and any other error is answered with 500. It runs on the connection's loop, and its task is cancelled when
  /// the client leaves. Default: nil, all are accepted.
  ///
  /// ```swift
  /// options.onRequest = { request in
  ///   guard let user = try await users.find(request.headerFields[.cookie]) else { throw RequestRejection.unauthorized() }
  ///   return WebSocketAcceptance(headers: ["X-User": user.name], value: user)
  /// }
  /// ```
  public var onRequest: (@Sendable (HTTPRequest) async throws -> WebSocketAcceptance)?
  /// Time for the handshake, however slowly it comes: from the accepted connection, or from the request's head where another server has read that. Default:
  /// 10 seconds.
  public var handshakeTimeout: Duration = .seconds(10)
  /// Limits and times of each connection.
  public var connection = WebSocketOptions()

  public init() {}
}

/// What an application accepts a request with; a dictionary of headers is one too.
public struct WebSocketAcceptance: Sendable, ExpressibleByDictionaryLiteral {
  /// Fields that are added to the 101 response.
  public var headers: Headers
  /// The subprotocol: one of those that the client offers, or the request is answered with 500. Default: nil, chosen by the options.
  public var subprotocol: String?
  /// What the handler gets with `WebSocket.value(as:)`: who the client is, a connection that was made for it. Default: nothing.
  public var value: (any Sendable)?

  public init(headers: Headers = [:], subprotocol: String? = nil, value: (any Sendable)? = nil) {
    self.headers = headers
    self.subprotocol = subprotocol
    self.value = value
  }

  public init(dictionaryLiteral elements: (String, String)...) {
    var headers = Headers()
    for (name, value) in elements { headers.append(name: name, value: value) }
    self.init(headers: headers)
  }
}
