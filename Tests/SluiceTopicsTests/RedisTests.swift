#if Redis
  import Sluice
  import SluiceTopics
  import Synchronization
  import Testing

  @testable import SluiceTopicsRedis

  @Suite("Topics on a real Redis, which fails", .timeLimit(.minutes(2)))
  struct RedisTests {
    private func withRedis(
      _ arguments: [String] = [], _ body: (RedisHost) async throws -> Void
    ) async throws {
      let host =
        switch arguments.count {
        case 4: try await RedisHost.start(arguments[0], arguments[1], arguments[2], arguments[3])
        case 2: try await RedisHost.start(arguments[0], arguments[1])
        default: try await RedisHost.start()
        }
      do { try await body(host) } catch {
        await host.stop()
        throw error
      }
      await host.stop()
    }

    private var impatient: RedisOptions {
      var options = RedisOptions()
      options.commandTimeout = .milliseconds(400)
      options.probeInterval = .milliseconds(300)
      options.maxDelay = .milliseconds(200)
      return options
    }

    private func checkRun(
      _ host: RedisHost, count: Int, during: @escaping @Sendable () async throws -> Void
    ) async throws {
      let redis = impatient
      try await SluiceTopicsTests.checkRun(
        count: count, connecting: { try await host.connect(redis, $0) }, during: during)
    }

    @Test("connections that are cut again and again: all is stored once, and read once, in order")
    func cut() async throws {
      try await withRedis { host in
        try await checkRun(host, count: 4000) {
          for _ in 0..<25 {
            try await Task.sleep(for: .milliseconds(40))
            _ = try? await host.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
          }
        }
      }
    }

    @Test("a server that stands still for longer than each time limit")
    func standstill() async throws {
      try await withRedis { host in
        try await checkRun(host, count: 2000) {
          for _ in 0..<3 {
            try await Task.sleep(for: .milliseconds(100))
            host.halt()
            try await Task.sleep(for: .milliseconds(1100))
            host.go()
          }
        }
      }
    }

    @Test("a server that is killed and keeps all: its positions stay good, and readers and writers go on")
    func killedWithPersistence() async throws {
      try await withRedis(["--appendonly", "yes", "--appendfsync", "always"]) { host in
        try await checkRun(host, count: 3000) {
          for _ in 0..<2 {
            try await Task.sleep(for: .milliseconds(150))
            try await host.kill()
            try await Task.sleep(for: .milliseconds(100))
            try await host.begin()
          }
        }
      }
    }

    @Test("a server that is killed and keeps nothing: the loss is told to those who wait and to those who come back")
    func killedWithoutPersistence() async throws {
      try await withRedis { host in
        let topics = try await host.connect(impatient)
        let topic = try topics.topic("lost")
        let told = Mutex<[TopicLoss]>([])
        let resuming = try await topic.messages(
          from: .now, onLoss: .resume(from: .earliest) { loss in told.withLock { $0.append(loss) } })
        let strict = try await topic.messages(from: .now)
        var last: Position?
        for number in 0..<10 { last = try await topic.append("old \(number)") }
        _ = try await resuming.read(count: 10)
        _ = try await strict.read(count: 10)
        try await host.kill()
        try await host.begin()
        let new = try await topic.append("new")
        #expect(new.offset > (last?.offset ?? 0) + 1)
        #expect(try await resuming.read()?.position == new)
        #expect(told.withLock { $0.map(\.asked) } == [last])
        await #expect(throws: TopicError.self) { try await strict.read() }
        await #expect(throws: TopicError.self) { try await topic.messages(from: .after(#require(last))) }
        await topics.close()
      }
    }

    @Test("a data set that is restored from an older copy: positions from behind it are void, others stay good")
    func restored() async throws {
      try await withRedis { host in
        let topics = try await host.connect(impatient)
        let topic = try topics.topic("restored")
        for number in 0..<5 { try await topic.append("kept \(number)") }
        let kept = try await topic.position()
        try await host.command("SAVE")
        for number in 0..<5 { try await topic.append("lost \(number)") }
        let lost = try await topic.position()
        try await host.kill()
        try await host.begin()
        let next = try await topic.append("next")
        #expect(next.epoch != kept.epoch)
        #expect(try await topic.messages(from: .after(kept)).read()?.position == next)
        await #expect(throws: TopicError.positionLost(asked: lost, earliest: kept)) {
          try await topic.messages(from: .after(lost))
        }
        let texts = try await topic.messages(from: .earliest).texts(count: 6)
        #expect(texts == (0..<5).map { "kept \($0)" } + ["next"])
        await topics.close()
      }
    }

    @Test("a stream that somebody else has trimmed: the loss is told to those whom it concerns, and the rest is read")
    func trimmedByOthers() async throws {
      try await withRedis { host in
        var options = TopicsOptions()
        options.ringBytes = 100
        let topics = try await host.connect(RedisOptions(), options)
        let topic = try topics.topic("log")
        var positions: [Position] = []
        for number in 0..<60 { positions.append(try await topic.append("\(number)")) }
        let key = "sluice:{log}:log"
        try await host.command("XTRIM", key, "MAXLEN", "=", "40").check("XTRIM")
        #expect(try await topic.messages(from: .earliest).texts(count: 40) == (20..<60).map { "\($0)" })
        await #expect(throws: TopicError.positionLost(asked: positions[9], earliest: positions[19])) {
          try await topic.messages(from: .after(positions[9])).read()
        }
        // In the middle, of somebody who reads across it.
        for position in positions[40...41] { try await host.command("XDEL", key, "\(position.offset)").check("XDEL") }
        let reader = try await topic.messages(from: .earliest)
        #expect(try await reader.texts(count: 20) == (20..<40).map { "\($0)" })
        await #expect(throws: TopicError.positionLost(asked: positions[39], earliest: positions[41])) {
          try await reader.read()
        }
        #expect(try await topic.messages(from: .after(positions[41])).texts(count: 18) == (42..<60).map { "\($0)" })
        try await topic.append("new")
        #expect(try await topic.messages(from: .after(positions[59])).read()?.text == "new")
        await topics.close()
      }
    }

    @Test("passwords and users; a server that refuses says why, at once")
    func permissions() async throws {
      try await withRedis(["--requirepass", "secret"]) { host in
        await #expect(throws: TopicError.self) { try await host.connect(RedisOptions()) }
        var options = RedisOptions()
        options.password = "wrong"
        let wrong = options
        await #expect(throws: TopicError.self) { try await host.connect(wrong) }
        options.password = "secret"
        options.database = 3
        let topics = try await host.connect(options)
        try await topics.topic("a").append("b")
        #expect(try await topics.topic("a").messages(from: .earliest).read()?.text == "b")
        await topics.close()
        let connection = try await RedisServer(host.url, options).connect()
        _ = try await connection.send(
          RedisCommand("ACL", "SETUSER", "poor", "on", ">pw", "~sluice:*", "+@connection", "+info", "+select"),
          within: .seconds(5)
        ).check("ACL")
        connection.close()
        options.username = "poor"
        options.password = "pw"
        let poor = options
        do {
          _ = try await host.connect(poor)
          Issue.record("a user that may not run scripts was taken")
        } catch TopicError.refused(let reason) {
          #expect(reason.contains("NOPERM"))
        }
      }
    }

    @Test("nobody there: an error within the time limit, and no waiting")
    func nobody() async throws {
      do {
        _ = try await Topics.redis("redis+unix:///tmp/sluice-nobody-\(UInt64.random(in: 0 ... .max))")
        Issue.record("connected to nobody")
      } catch TopicError.unavailable {}
      await #expect(throws: TopicError.self) { try await Topics.redis("redis://127.0.0.1:1/") }
      await #expect(throws: TopicError.self) { try await Topics.redis("redis://127.0.0.1:1/x") }
      await #expect(throws: (any Error).self) { try await Topics.redis("http://127.0.0.1:1/") }
    }

    @Test("connections of closed topics are gone from the server, and so are those that only read")
    func nothingLeft() async throws {
      try await withRedis { host in
        let topics = try await host.connect(RedisOptions())
        let reader = try await topics.topic("left").messages(from: .now)
        try await topics.topic("left").append("x")
        _ = try await reader.read()
        #expect(try await clients(of: host) == 4)
        await topics.close()
        for _ in 0..<200 where try await clients(of: host) > 1 { try await Task.sleep(for: .milliseconds(5)) }
        #expect(try await clients(of: host) == 1)
      }
    }

    private func clients(of host: RedisHost) async throws -> Int {
      try await host.command("CLIENT", "LIST").text?.split(separator: "\n").count ?? 0
    }
  }
#endif
