#if Redis
  import SluiceClient
  import SluiceHTTP
  import SluiceIO
  import SluiceStreams
  import SluiceTLS
  import SluiceTopics

  /// How Redis is reached, and what is kept there. What stands in the URL takes precedence.
  public struct RedisOptions: Sendable {
    /// An ACL user; nil: the default user.
    public var username: String?
    public var password: String?
    /// Default: 0.
    public var database = 0
    /// For `rediss:`. Default: nil, the system's roots.
    public var tls: TLSClientContext?
    /// What the keys begin with: `PREFIX{TOPIC}:log`, `:meta` and `:w:WRITER`. Default: "sluice:".
    public var prefix = "sluice:"
    /// How long connecting may take, and each command. A server that is silent for longer counts as lost. Default: 5 seconds.
    public var commandTimeout = Duration.seconds(5)
    /// How long the subscription waits at the server before it shows that it lives. Default: 5 seconds.
    public var probeInterval = Duration.seconds(5)
    /// The longest time between attempts to connect again. Default: 10 seconds.
    public var maxDelay = Duration.seconds(10)

    public init() {}
  }

  /// A server and how it is reached.
  struct RedisServer: Sendable {
    enum Place: Hashable, Sendable {
      case host(String, port: Int, isSecure: Bool)
      case unixSocket(String)
    }
    let place: Place
    let options: RedisOptions

    init(_ place: Place, _ options: RedisOptions) {
      self.place = place
      self.options = options
    }

    /// The servers that a URL names, with a comma between them: any of one cluster.
    /// - Throws: `URLError`; `TopicError.refused` for what is no database.
    static func all(_ url: String, _ options: RedisOptions) throws -> [RedisServer] {
      guard !url.utf8.starts(with: "redis+unix:".utf8), let start = url.firstRange(of: "://")?.upperBound else {
        return [try RedisServer(url, options)]
      }
      let end = url[start...].firstIndex { "/?#".contains($0) } ?? url.endIndex
      let first = url[start..<end].lastIndex(of: "@").map { url.index(after: $0) } ?? start
      let hosts = url[first..<end]
      return try hosts.split(separator: ",", omittingEmptySubsequences: false).map {
        try RedisServer(String(url[..<first]) + String($0) + String(url[end...]), options)
      }
    }

    /// The same way to another server.
    func at(_ host: String, port: Int) -> RedisServer {
      guard case .host(_, _, let isSecure) = place else { return self }
      return RedisServer(.host(host, port: port, isSecure: isSecure), options)
    }

    /// One server.
    /// - Throws: `URLError`; `TopicError.refused` for what is no database.
    init(_ url: String, _ options: RedisOptions) throws {
      var options = options
      let database: String?
      if url.utf8.starts(with: "redis+unix://".utf8) {
        let rest = String(decoding: url.utf8.dropFirst("redis+unix://".utf8.count), as: UTF8.self)
        let parts = rest.split(separator: "?", maxSplits: 1)
        place = .unixSocket(String(parts.first ?? ""))
        let query = parts.count > 1 ? parts[1] : ""
        if query.isEmpty {
          database = nil
        } else {
          guard query.utf8.starts(with: "db=".utf8) else { throw TopicError.refused("invalid query in \(url)") }
          database = String(query.dropFirst(3))
        }
      } else {
        let parsed = try ConnectionURL(url, schemes: ["redis", "rediss"])
        place = .host(parsed.host, port: parsed.port, isSecure: parsed.scheme == "rediss")
        if let info = parsed.userInfo {
          options.username = info.user.isEmpty ? nil : info.user
          options.password = info.password
        }
        let path = String(parsed.target.dropFirst())
        database = path.isEmpty ? nil : path
      }
      if let database {
        guard let number = Int(database), number >= 0 else {
          throw TopicError.refused("'\(database)' is no database of Redis")
        }
        options.database = number
      }
      self.options = options
    }

    func connect() async throws -> RedisConnection {
      let stream: any PolledDuplexStream<Bytes, Bytes>
      do {
        switch place {
        case .unixSocket(let path): stream = try await UnixSocket.connect(path, timeout: options.commandTimeout)
        case .host(let host, let port, let isSecure):
          var connect = ConnectOptions()
          connect.timeout = options.commandTimeout
          connect.tls = options.tls
          stream = try await Connect.open(Origin(host: host, port: port, isSecure: isSecure), options: connect)
        }
      } catch is CancellationError {
        throw CancellationError()
      } catch let error as TLSError {
        throw TopicError.untrusted("\(error)")
      } catch {
        throw TopicError.unavailable("\(error)")
      }
      return try await RedisConnection.open(over: stream, options)
    }
  }

  extension Topics {
    /// Topics on a Redis server (6.2 or later, or Valkey), or on a cluster of them, for any number of processes and machines.
    ///
    /// ```swift
    /// let rooms = try await Topics.redis("redis://cache:6379")
    /// ```
    /// What Redis can lose is what its configuration lets it lose: without persistence everything at a restart, with `appendfsync everysec` up to a second, at a
    /// fail-over what the replica had not got. A position whose message is lost is known as lost: each life of the server's process is an epoch of its own.
    /// Of a cluster, any servers are named, and the others are found; a topic is on one of its servers, and each topic that is read takes a connection of its own.
    /// The server must not evict the keys (`maxmemory-policy noeviction`, or a limit that is not reached).
    /// - Parameter url: `redis://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/DATABASE]`, `rediss://…` for TLS, `redis+unix:///PATH[?db=DATABASE]`.
    /// - Throws: `TopicError.unavailable` if the server is not reached, `.refused` if it is not one to be used, or does not permit it; `URLError`.
    public static func redis(
      _ url: String, redis: RedisOptions = RedisOptions(), options: TopicsOptions = TopicsOptions()
    ) async throws -> Topics {
      let engine = RedisTopicEngine(try RedisServer.all(url, redis), options.observer)
      do { try await engine.check() } catch {
        await engine.close()
        throw error
      }
      return Topics(engine: engine, options: options)
    }
  }
#endif
