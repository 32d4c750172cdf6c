import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS

/// How a server listens, and which connections it accepts: a member of every server's options.
public struct ListenOptions: Sendable {
  /// Connections that may be open or opening at once; more are answered with 503, or disconnected in TLS. Default: 100,000, for an HTTP server
  /// 10,000.
  public var maxConnections = 100_000
  /// The same per address: an IPv4 address, or the first 64 bits of an IPv6 address, which one customer has. More are answered with 429. Default:
  /// nil, no limit, because all clients behind a proxy share its address.
  public var maxConnectionsPerAddress: Int?
  /// Addresses and networks whose clients are served; others are answered with 403, or disconnected in TLS. A client behind a trusted proxy counts by
  /// the address that this names. Default: none, which means all.
  public var allowedClients: [IPNetwork] = []
  /// Addresses of proxies whose fields say where a request comes from: the client is the last address of their list that is not one of theirs. Fields
  /// from other addresses are ignored. An address, or a network such as `10.0.0.0/8`. Default: none.
  public var trustedProxies: [IPNetwork] = []
  /// The field that these proxies write. Default: `X-Forwarded-For`, and `Forwarded` in requests without it.
  public var forwardedFields = ForwardedFields.either
  /// Load balancers that say with the PROXY protocol (version 1 or 2) where each connection comes from. A connection from one of them without a PROXY
  /// header is closed; from other addresses, a PROXY header is invalid HTTP. Default: none.
  public var proxyProtocolFrom: [IPNetwork] = []
  /// Limits of a request's head; larger ones are answered with 431. Default: 16 KiB, 100 fields.
  public var headLimits = HeadLimits()
  /// Certificates for `wss:` and `https:`, which need them; `TLSServerContext.reload` changes them while the server runs.
  public var tls: TLSServerContext?
  /// Options of the sockets.
  public var tcp = TCP.Options()
  /// A socket that this process was started with, to serve instead of listening at the URL's host and port, whose scheme and path count: see
  /// `SocketListener.adopt`. Of a connection that was accepted already, that one is served. Default: nil, none.
  public var descriptor: CInt?
  /// Connections that may wait to be accepted. Default: 1024.
  public var backlog = 1024
  /// Loops that serve, 1 or more, each a thread that shares the port. Default: 1, the shared loop.
  public var loops = 1

  public init() {}

  /// Counts the connections of one server.
  package func counter() -> ConnectionCounter {
    ConnectionCounter(
      maxConnections: maxConnections, maxPerAddress: maxConnectionsPerAddress, trustedProxies: trustedProxies,
      forwardedFields: forwardedFields, allowedClients: allowedClients)
  }
}
