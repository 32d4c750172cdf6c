#if Redis
  import Sluice
  import SluiceIO
  import SluiceTopics
  import Synchronization
  import Testing

  @testable import SluiceTopicsRedis

  /// A redis-server of a test's own, on a Unix socket in a folder of its own.
  final class RedisHost: EngineHost {
    let folder: String
    private let arguments: [String]
    private let process = Mutex<ChildProcess?>(nil)

    var url: String { "redis+unix://\(folder)/redis.sock" }

    private init(_ folder: String, _ arguments: [String]) {
      self.folder = folder
      self.arguments = arguments
    }

    /// - Parameter arguments: What stands behind the configuration without persistence.
    static func start(_ arguments: String...) async throws -> RedisHost {
      let folder = "/tmp/sluice-redis-\(UInt64.random(in: 0 ... .max))"
      let made = try await ChildProcess.spawn(["mkdir", "-m", "700", folder])
      #expect(try await made.waitForExit() == nil)
      let host = RedisHost(folder, arguments)
      try await host.begin()
      return host
    }

    /// Starts the server, again perhaps: with what it has on disk.
    func begin() async throws {
      let child = try await ChildProcess.spawn(
        [
          "redis-server", "--port", "0", "--unixsocket", "\(folder)/redis.sock", "--dir", folder, "--save", "",
          "--logfile", "\(folder)/log",
        ] + arguments)
      process.withLock { $0 = child }
      for _ in 0..<500 {
        if let stream = try? await UnixSocket.connect("\(folder)/redis.sock") {
          try await stream.write("PING\r\n")
          let answer = try await stream.read()
          stream.abort()
          // -NOAUTH is an answer too; -LOADING is none yet.
          if let answer, !answer.string.contains("LOADING") { return }
        }
        try await Task.sleep(for: .milliseconds(10))
      }
      throw TopicError.unavailable("redis-server does not start")
    }

    /// Stands still, until `go`.
    func halt() { signal(Signal(number: 19)) }
    func go() { signal(.continue) }

    private func signal(_ signal: Signal) { process.withLock { $0 }?.send(signal) }

    func kill() async throws {
      let child = process.withLock { $0 }
      child?.send(.kill)
      _ = try await child?.waitForExit()
    }

    func connect(_ options: TopicsOptions) async throws -> Topics { try await connect(RedisOptions(), options) }

    func connect(_ redis: RedisOptions, _ options: TopicsOptions = TopicsOptions()) async throws -> Topics {
      try await Topics.redis(url, redis: redis, options: options)
    }

    /// Sends a command on a connection of its own.
    @discardableResult
    func command(_ words: String...) async throws -> RedisReply {
      let connection = try await RedisServer(url, RedisOptions()).connect()
      defer { connection.close() }
      return try await connection.send(RedisCommand(words.map { Bytes($0) }), within: .seconds(5)).check(words[0])
    }

    func wipe(_ topic: String) async throws { try await command("FLUSHALL") }

    func stop() async {
      guard let child = process.withLock({ $0 }) else { return }
      child.send(.continue)
      child.send(.kill)
      _ = try? await child.waitForExit()
      let removed = try? await ChildProcess.spawn(["rm", "-r", folder])
      _ = try? await removed?.waitForExit()
    }
  }

  extension EngineUnderTest {
    static let redis = EngineUnderTest(testDescription: "redis") { try await RedisHost.start() }
  }
#endif
