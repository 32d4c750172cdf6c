#if ServiceLifecycle
  import Logging
  import ServiceLifecycle
  import Sluice
  import SluiceLifecycle
  import Testing

  @Suite("Servers as services", .timeLimit(.minutes(1)))
  struct ServerServiceTests {
    /// Runs a service in a group for as long as `body` takes, shuts the group down gracefully, and waits for its end.
    private func run(_ service: ServerService, _ body: (_ shutDown: () async -> Void) async throws -> Void) async throws
    {
      let group = ServiceGroup(services: [service], logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
      let running = Task { try await group.run() }
      defer { running.cancel() }
      try await body { await group.triggerGracefulShutdown() }
      // The group's end is no failure: its services have ended because they were told to.
      try await running.value
    }

    @Test("a graceful shutdown closes WebSockets with 1001, behind what was sent")
    func webSockets() async throws {
      let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
      let service = server.service { ws in
        for try await message in ws { try await ws.send(message) }
      }
      try await run(service) { shutDown in
        let client = try await WebSocket.connect("ws://127.0.0.1:\(server.port)")
        try await client.send("hello")
        #expect(try await client.read()?.text == "hello")
        await shutDown()
        #expect(try await client.read() == nil)
        #expect(client.closeStatus?.code == .goingAway)
      }
    }

    @Test("responses under way are finished, and event streams end")
    func http() async throws {
      let server = try await HTTPServer.listen("http://127.0.0.1:0")
      let service = server.service(routes: [
        .events("/feed") { events in
          try await events.send("hello")
          try await Task.sleep(for: .seconds(60))
        },
        .respond("/slow") { _ in
          try await Task { try await Task.sleep(for: .milliseconds(200)) }.value
          return .text("done")
        },
      ])
      try await run(service) { shutDown in
        var options = EventSourceClientOptions()
        options.reconnects = false
        let feed = try await EventSource.connect("http://127.0.0.1:\(server.port)/feed", options: options)
        #expect(try await feed.read()?.data == "hello")
        let slow = try await TCP.connect("127.0.0.1", port: server.port)
        try await slow.write("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        try await Task.sleep(for: .milliseconds(50))
        await shutDown()
        #expect(try await feed.read() == nil)
        #expect((try await slow.collect(limit: 10_000) as Bytes).string.hasSuffix("\r\n\r\ndone"))
      }
    }

    @Test("a server of event streams ends them")
    func events() async throws {
      let server = try await EventSourceServer.listen("http://127.0.0.1:0")
      let service = server.service { events in
        try await events.send("hello")
        try await Task.sleep(for: .seconds(60))
      }
      try await run(service) { shutDown in
        var options = EventSourceClientOptions()
        options.reconnects = false
        let feed = try await EventSource.connect(server.url, options: options)
        #expect(try await feed.read()?.data == "hello")
        await shutDown()
        #expect(try await feed.read() == nil)
      }
    }
  }
#endif
