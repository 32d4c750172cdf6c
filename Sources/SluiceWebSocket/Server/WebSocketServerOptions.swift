import HTTPTypes
import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS
import SluiceWebSocketProtocol

/// How a server takes connections.
public struct WebSocketServerOptions: Sendable {
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
  /// Connections in all that may be open or opening; more are answered with 503. Default: 100,000.
  public var maxConnections = 100_000
  /// The same from one address: an IPv4 address, or the first 64 bits of an IPv6 one, which one customer has. More are answered
  /// with 429. Default: nil, as many as in all: behind a proxy all clients have its address.
  public var maxConnectionsPerAddress: Int?
  /// Addresses of proxies whose `X-Forwarded-For` says where a connection comes from; from others the field counts for nothing.
  /// An address, or a network as in `10.0.0.0/8`. Default: none.
  public var trustedProxies: [IPNetwork] = []
  /// Time from the accepted connection to the end of its handshake, however slowly it comes. Default: 10 seconds.
  public var handshakeTimeout: Duration = .seconds(10)
  /// Limits of the request head. Default: 16 KiB, 100 fields.
  public var headLimits = HeadLimits()
  /// Looks at a request before it is accepted. What it returns is added to the 101 response; a `RequestRejection` that it
  /// throws is the answer instead, and any other error is answered with 500. Called on the connection's loop: it must not block.
  public var onRequest: @Sendable (HTTPRequest) throws -> Headers = { _ in [:] }
  /// Load balancers that say with the PROXY protocol (version 1 or 2) where each connection comes from. One of theirs without it is cut;
  /// from other addresses it is what it looks like, no HTTP. Default: none.
  public var proxyProtocolFrom: [IPNetwork] = []
  /// Limits and times of each connection.
  public var connection = WebSocketOptions()
  /// Certificates for `wss:`, which needs them; `TLSServerContext.reload` changes them while the server runs.
  public var tls: TLSServerContext?
  /// Options of the sockets.
  public var tcp = TCP.Options()
  /// Connections that may wait to be accepted. Default: 1024.
  public var backlog = 1024
  /// Loops that serve, 1 or more, each a thread that shares the port. Default: 1, the shared loop.
  public var loops = 1

  public init() {}
}
