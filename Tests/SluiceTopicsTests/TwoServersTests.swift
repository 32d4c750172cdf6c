#if Redis
  import Sluice
  import SluiceTopics
  import SluiceTopicsRedis
  import Synchronization
  import Testing

  /// A process of topics-server.
  private struct ServerProcess {
    let process: ChildProcess
    let url: String

    static func start(_ redis: String) async throws -> ServerProcess {
      let process = try await ChildProcess.spawn([program, redis])
      let line = try await process.lines.read()
      return ServerProcess(process: process, url: try #require(line))
    }

    /// Beside the program that runs the tests, whatever the build's folder.
    private static let program: String = {
      let tests = CommandLine.arguments[0]
      return tests.prefix(upTo: tests.lastIndex(of: "/") ?? tests.startIndex) + "/topics-server"
    }()

    func kill() async throws {
      process.send(.kill)
      _ = try await process.waitForExit()
    }
  }

  @Suite("Two servers on one Redis", .timeLimit(.minutes(2)))
  struct TwoServersTests {
    @Test("readers of a server that is killed go on at the other one by Last-Event-ID, and nothing is missed")
    func killed() async throws {
      let host = try await RedisHost.start()
      let (one, other) = (try await ServerProcess.start(host.url), try await ServerProcess.start(host.url))
      let (readers, count) = (20, 1500)
      let topics = try await host.connect(TopicsOptions())
      let start = try await topics.topic("feed").position().description
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in 0..<readers {
          group.addTask {
            let servers = number % 2 == 0 ? [one, other] : [other, one]
            var (seen, last, turn) = ([String](), String?.none, 0)
            while seen.count < count {
              do {
                var options = EventSourceClientOptions()
                options.reconnects = false
                options.lastEventID = last
                // A page that comes for the first time says it in the URL.
                let query = last == nil ? "?lastEventId=" + start : ""
                let client = try await EventSource.connect(servers[turn % 2].url + "/feed" + query, options: options)
                while seen.count < count, let event = try await client.read() {
                  seen.append(event.data)
                  last = event.id
                }
              } catch is IOError {} catch is EventSourceError {} catch is ConnectError {} catch is StreamError {}
              turn += 1
              if seen.count < count { try await Task.sleep(for: .milliseconds(5)) }
            }
            #expect(seen == (0..<count).map { "\($0)" })
          }
        }
        group.addTask {
          let sink = try topics.topic("feed").writer()
          for number in 0..<count {
            try await sink.write("\(number)")
            if number % 10 == 0 { try await Task.sleep(for: .milliseconds(4)) }
            if number == count / 2 { try await one.kill() }
          }
          try await sink.close()
        }
        try await group.waitForAll()
      }
      await topics.close()
      try await other.kill()
      await host.stop()
    }

    @Test("an event stream tells its client where it stands before the first event")
    func position() async throws {
      let host = try await RedisHost.start()
      let server = try await ServerProcess.start(host.url)
      let topics = try await host.connect(TopicsOptions())
      let position = try await topics.topic("feed").append("before")
      let port = try #require(server.url.split(separator: ":").last.flatMap { Int($0) })
      let stream = try await TCP.connect("127.0.0.1", port: port)
      try await stream.write("GET /feed HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n")
      var answer = ""
      while !answer.contains("id: \(position)\n\n"), let bytes = try await stream.read() { answer += bytes.string }
      #expect(answer.contains("id: \(position)\n\n"))
      #expect(!answer.contains("data:"))
      stream.abort()
      await topics.close()
      try await server.kill()
      await host.stop()
    }

    @Test("a chat over two servers: everybody gets what everybody says, once and in one order")
    func chat() async throws {
      let host = try await RedisHost.start()
      let (one, other) = (try await ServerProcess.start(host.url), try await ServerProcess.start(host.url))
      let (people, each) = (8, 50)
      var sockets: [WebSocket] = []
      for number in 0..<people {
        let url = (number % 2 == 0 ? one : other).url.replacing("http://", with: "ws://")
        sockets.append(try await WebSocket.connect(url + "/rooms/lobby"))
      }
      let records = try await withThrowingTaskGroup(of: [String].self) { group in
        for (number, ws) in sockets.enumerated() {
          group.addTask {
            async let said: Void = {
              for word in 0..<each { try await ws.send("\(number) \(word)") }
            }()
            var heard: [String] = []
            while heard.count < people * each, let message = try await ws.read() { heard.append(message.text) }
            try await said
            return heard
          }
        }
        return try await group.reduce(into: [[String]]()) { $0.append($1) }
      }
      for record in records { #expect(record == records[0]) }
      for number in 0..<people {
        #expect(records[0].filter { $0.hasPrefix("\(number) ") } == (0..<each).map { "\(number) \($0)" })
      }
      // One who comes later gets the last of it.
      let late = try await WebSocket.connect(other.url.replacing("http://", with: "ws://") + "/rooms/lobby")
      #expect(try await late.read()?.text == records[0][people * each - 50])
      for ws in sockets + [late] { try await ws.close(.normal) }
      try await one.kill()
      try await other.kill()
      await host.stop()
    }
  }
#endif
