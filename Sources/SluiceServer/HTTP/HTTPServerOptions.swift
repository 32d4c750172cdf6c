/// The sockets, limits and times of an HTTP server. The members of `listen` are members of this too.
@dynamicMemberLookup
public struct HTTPServerOptions: Sendable {
  /// The sockets, and which connections are accepted.
  public var listen = ListenOptions()
  /// The largest request body in bytes; larger ones are answered with 413. Default: 16 MiB.
  public var maxBodySize = 16 << 20
  /// Time for a request's head, however slowly it arrives. The first one counts from accept, including the PROXY protocol and TLS; later ones count
  /// from their first byte. A head that is incomplete then is answered with 408. Default: 10 seconds.
  public var requestTimeout: Duration = .seconds(10)
  /// How long a connection may wait for its next request. Default: 60 seconds.
  public var keepAliveTimeout: Duration = .seconds(60)
  /// How long a body may make no progress: a client that neither sends nor reads anything for this long is disconnected; a slow client that makes
  /// progress is not, also while its connection ends. Noticed up to half as much later. Default: 30 seconds.
  public var stallTimeout: Duration = .seconds(30)
  /// Time for requests under way when the server stops. Default: 10 seconds.
  public var shutdownTimeout: Duration = .seconds(10)
  /// Called with what the server does. Default: none.
  public var observer: (any HTTPServerObserver)?

  public init() { listen.maxConnections = 10_000 }

  public subscript<Value>(dynamicMember member: WritableKeyPath<ListenOptions, Value>) -> Value {
    get { listen[keyPath: member] }
    set { listen[keyPath: member] = newValue }
  }
}
