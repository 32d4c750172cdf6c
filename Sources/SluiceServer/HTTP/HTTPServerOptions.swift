import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS

/// How an HTTP server takes connections, and what it bears with.
public struct HTTPServerOptions: Sendable {
  /// Connections in all; more are answered with 503, in TLS cut. Default: 10,000.
  public var maxConnections = 10_000
  /// The same from one address (an IPv4 address, or the first 64 bits of an IPv6 one), answered with 429. Default: nil, as many as in
  /// all: behind a proxy all clients have its address.
  public var maxConnectionsPerAddress: Int?
  /// Addresses of proxies that say where a request comes from: the last address of their list that is none of theirs. Default: none.
  public var trustedProxies: [IPNetwork] = []
  /// The field that these proxies write. Default: `X-Forwarded-For`, and `Forwarded` in requests without it.
  public var forwardedFields = ForwardedFields.either
  /// Load balancers that say with the PROXY protocol where each connection comes from; one of theirs without it is cut. Default: none.
  public var proxyProtocolFrom: [IPNetwork] = []
  /// Certificates for `https:`, which needs them.
  public var tls: TLSServerContext?
  /// Limits of a request head: 431 beyond. Default: 16 KiB, 100 fields.
  public var headLimits = HeadLimits()
  /// Bytes of a request's body: 413 beyond. Default: 16 MiB.
  public var maxBodySize = 16 << 20
  /// Time for a request's head, however slowly it comes: the first one's from the accepted connection, with the PROXY protocol and TLS before it;
  /// a later one's from its own first byte. A head that has begun is answered with 408 then. Default: 10 seconds.
  public var requestTimeout: Duration = .seconds(10)
  /// Time that a connection may wait for its next request. Default: 60 seconds.
  public var keepAliveTimeout: Duration = .seconds(60)
  /// Time in which a body must go on: a client that sends, or takes, nothing for so long is cut; one that takes a little has no limit, also
  /// while its connection ends. Noticed up to half as much later. Default: 30 seconds.
  public var stallTimeout: Duration = .seconds(30)
  /// Time for what is under way when the server stops. Default: 10 seconds.
  public var shutdownTimeout: Duration = .seconds(10)
  /// Options of the sockets.
  public var tcp = TCP.Options()
  /// Connections that may wait to be accepted. Default: 1024.
  public var backlog = 1024
  /// Loops that serve, 1 or more, each a thread that shares the port. Default: 1, the shared loop.
  public var loops = 1
  /// Is told what the server does. Default: nobody.
  public var observer: (any HTTPServerObserver)?

  public init() {}
}
