/// How an HTTP server takes connections, and what it bears with. The members of `listen` are members of this too.
@dynamicMemberLookup
public struct HTTPServerOptions: Sendable {
  /// The sockets, and who may connect.
  public var listen = ListenOptions()
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
  /// Is told what the server does. Default: nobody.
  public var observer: (any HTTPServerObserver)?

  public init() { listen.maxConnections = 10_000 }

  public subscript<Value>(dynamicMember member: WritableKeyPath<ListenOptions, Value>) -> Value {
    get { listen[keyPath: member] }
    set { listen[keyPath: member] = newValue }
  }
}
