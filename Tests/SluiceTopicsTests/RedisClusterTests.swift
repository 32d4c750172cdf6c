#if Redis
  import Sluice
  import SluiceTopics
  import Testing

  @testable import SluiceTopicsRedis

  @Suite("Topics on a real cluster of Redis, whose slots move", .timeLimit(.minutes(2)))
  struct RedisClusterTests {
    /// One of the servers, for those who look after it.
    private struct Server {
      let port: Int
      let id: String
      private let connection: RedisConnection

      init(port: Int) async throws {
        self.port = port
        connection = try await RedisServer("redis://127.0.0.1:\(port)", RedisOptions()).connect()
        id = try #require(try await connection.send(RedisCommand("CLUSTER", "MYID"), within: .seconds(5)).text)
      }

      @discardableResult
      func command(_ words: String...) async throws -> RedisReply {
        try await connection.send(RedisCommand(words.map { Bytes($0) }), within: .seconds(10)).check(words[0])
      }

      func keys(of slot: String) async throws -> [String] {
        try await command("CLUSTER", "GETKEYSINSLOT", slot, "1000").array?.compactMap(\.text) ?? []
      }

      /// How often somebody has said that a key is on its way here.
      func askingCount() async throws -> Int {
        let stats = try await command("INFO", "commandstats").text ?? ""
        let line = stats.split(whereSeparator: \.isNewline).first { $0.hasPrefix("cmdstat_asking:calls=") }
        return line.flatMap { Int($0.dropFirst("cmdstat_asking:calls=".count).prefix { $0 != "," }) } ?? 0
      }

      func close() { connection.close() }
    }

    @Test("a topic that moves from server to server while it is written and read: nothing is lost, and readers stay")
    func slotMoves() async throws {
      let host = try await RedisClusterHost.start()
      var servers: [Server] = []
      for port in host.cluster.ports.prefix(3) { servers.append(try await Server(port: port)) }
      defer { for server in servers { server.close() } }
      let all = servers
      let key = "\(host.options.prefix){run}:log"
      let slot = try #require(try await all[0].command("CLUSTER", "KEYSLOT", key).number.map { "\($0)" })
      let askings = try await all.asyncSum { try await $0.askingCount() }
      try await checkRun(
        count: 8000, connecting: { try await host.connect($0) },
        during: {
          for _ in 0..<3 {
            try await Task.sleep(for: .milliseconds(200))
            try await move(slot, in: all)
          }
        })
      // While all of its keys were away and the slot was not, each command was sent on.
      let sentOn = try await all.asyncSum { try await $0.askingCount() } - askings
      #expect(sentOn > 3)
    }

    /// Moves a slot from the server that has it to the next one, as redis-cli does, slowly.
    private func move(_ slot: String, in servers: [Server]) async throws {
      var holder: Int?
      for (index, server) in servers.enumerated() where try await !server.keys(of: slot).isEmpty { holder = index }
      let from = servers[try #require(holder)]
      let to = servers[(try #require(holder) + 1) % servers.count]
      try await to.command("CLUSTER", "SETSLOT", slot, "IMPORTING", from.id)
      try await from.command("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
      // One key after the other: a command about several of them is to be tried again meanwhile.
      while let key = try await from.keys(of: slot).first {
        try await from.command("MIGRATE", "127.0.0.1", "\(to.port)", key, "0", "5000")
        try await Task.sleep(for: .milliseconds(50))
      }
      try await Task.sleep(for: .milliseconds(400))
      for server in [to, from] + servers { try await server.command("CLUSTER", "SETSLOT", slot, "NODE", to.id) }
    }
  }

  extension Array {
    fileprivate func asyncSum(_ count: (Element) async throws -> Int) async throws -> Int {
      var sum = 0
      for element in self { sum += try await count(element) }
      return sum
    }
  }
#endif
