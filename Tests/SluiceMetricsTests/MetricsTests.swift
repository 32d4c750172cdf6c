#if Metrics
  import MetricsTestKit
  import Sluice
  import SluiceMetrics
  import Testing

  @Suite("What is counted", .timeLimit(.minutes(1)))
  struct MetricsTests {
    private func counts(_ metrics: TestMetrics) -> [String] {
      let counters = metrics.counters.map { counter in
        ([counter.label] + counter.dimensions.map { "\($0.0)=\($0.1)" } + ["\(counter.totalValue)"]).joined(
          separator: " ")
      }
      return (counters + metrics.meters.map { "\($0.label) \($0.lastValue ?? 0)" }).sorted()
    }

    @Test("an HTTP server's connections, answers and refusals, and its event streams")
    func server() async throws {
      let metrics = TestMetrics()
      var options = HTTPServerOptions()
      options.observer = HTTPServerMetrics(factory: metrics)
      var streams = EventSourceServerOptions()
      streams.observer = EventSourceMetrics(factory: metrics)
      let server = try await HTTPServer.listen("http://127.0.0.1:0", options: options)
      let running = Task { [streams] in
        try await server.run(routes: [
          .respond("/health") { _ in .text("ok") }, .events("/feed", options: streams) { try await $0.send("hello") },
        ])
      }
      for (path, fields) in [("/health", ""), ("/feed", ""), ("/feed", "Accept: text/html\r\n"), ("/nowhere", "")] {
        let socket = try await TCP.connect("127.0.0.1", port: server.port)
        try await socket.write(Bytes("GET \(path) HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\(fields)\r\n"))
        _ = try await socket.collect(limit: 10_000) as Bytes
        try await socket.close()
      }
      running.cancel()
      await #expect(throws: CancellationError.self) { try await running.value }
      #expect(
        counts(metrics) == [
          "sluice.eventsource.bytes 13", "sluice.eventsource.connections 0.0", "sluice.eventsource.events 1",
          "sluice.eventsource.high_watermark 0", "sluice.eventsource.missed 0", "sluice.eventsource.opened 1",
          "sluice.eventsource.refused status=406 1", "sluice.http.bytes 2", "sluice.http.connections 0.0",
          "sluice.http.opened 4", "sluice.http.refused status=404 1", "sluice.http.responses status=200 1",
        ])
    }

    @Test("what does not become a client's WebSocket: refused, by the status, and not connected")
    func clientFailures() async throws {
      let metrics = TestMetrics()
      var options = WebSocketClientOptions()
      options.connection.observer = WebSocketMetrics(factory: metrics)
      let server = try await HTTPServer.listen("http://127.0.0.1:0")
      let running = Task { try await server.run(routes: [.respond("/health") { _ in .text("ok") }]) }
      for path in ["health", "nowhere", "nowhere"] {
        await #expect(throws: WebSocketConnectError.self) {
          _ = try await WebSocket.connect("ws://127.0.0.1:\(server.port)/\(path)", options: options)
        }
      }
      running.cancel()
      await #expect(throws: CancellationError.self) { try await running.value }
      await #expect(throws: (any Error).self) {
        _ = try await WebSocket.connect("ws://127.0.0.1:\(server.port)/", options: options)
      }
      let failures = counts(metrics).filter { $0.contains("handshake_failures") }
      #expect(
        failures == [
          "sluice.websocket.handshake_failures status=200 1", "sluice.websocket.handshake_failures status=404 2",
          "sluice.websocket.handshake_failures status=none 1",
        ])
    }
  }
#endif
