import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS

/// How a server listens, and which connections it takes: a member of every server's options.
public struct ListenOptions: Sendable {
  /// Connections in all that may be open or opening; more are answered with 503, in TLS cut. Default: 100,000, of an HTTP server 10,000.
  public var maxConnections = 100_000
  /// The same from one address: an IPv4 address, or the first 64 bits of an IPv6 one, which one customer has. More are answered
  /// with 429. Default: nil, as many as in all: behind a proxy all clients have its address.
  public var maxConnectionsPerAddress: Int?
  /// Addresses of proxies that say where a request comes from: the last address of their list that is not one of theirs; from others the field counts
  /// for nothing. An address, or a network as in `10.0.0.0/8`. Default: none.
  public var trustedProxies: [IPNetwork] = []
  /// The field that these proxies write. Default: `X-Forwarded-For`, and `Forwarded` in requests without it.
  public var forwardedFields = ForwardedFields.either
  /// Load balancers that say with the PROXY protocol (version 1 or 2) where each connection comes from. One of theirs without it is cut;
  /// from other addresses it is what it looks like, no HTTP. Default: none.
  public var proxyProtocolFrom: [IPNetwork] = []
  /// Limits of a request's head: 431 beyond. Default: 16 KiB, 100 fields.
  public var headLimits = HeadLimits()
  /// Certificates for `wss:` and `https:`, which need them; `TLSServerContext.reload` changes them while the server runs.
  public var tls: TLSServerContext?
  /// Options of the sockets.
  public var tcp = TCP.Options()
  /// Connections that may wait to be accepted. Default: 1024.
  public var backlog = 1024
  /// Loops that serve, 1 or more, each a thread that shares the port. Default: 1, the shared loop.
  public var loops = 1

  public init() {}

  /// Counts the connections of one server.
  func counter() -> ConnectionCounter {
    ConnectionCounter(
      maxConnections: maxConnections, maxPerAddress: maxConnectionsPerAddress, trustedProxies: trustedProxies,
      forwardedFields: forwardedFields)
  }
}
