import Sluice
import SluiceTesting
import Testing

@Suite("a WebSocket without a socket, for tests", .timeLimit(.minutes(1)))
struct PairTests {
  @Test("both ends are open, and what one sends the other reads; virtual time passes at once")
  func pair() async throws {
    let start = ContinuousClock.now
    try await SimulatedLoop.run { loop in
      let (client, server) = try await WebSocket.pair(protocols: ["chat"])
      #expect(client.protocol == "chat" && server.protocol == "chat")
      async let echo: Void = server.pipe(server)
      try await client.send("hello")
      #expect(try await client.read()?.text == "hello")
      try await loop.sleep(for: .seconds(86_400))
      try await client.close()
      try await echo
    }
    #expect(ContinuousClock.now - start < .seconds(30))
  }

  @Test("it lives on any loop, and says so where there is none")
  func loops() async throws {
    let (client, server) = try await WebSocket.pair(on: UVLoop.shared)
    async let echo: Void = server.pipe(server)
    let large = Message.binary(Bytes([UInt8](repeating: 9, count: 300_000)))
    async let sent: Void = client.send(large)
    #expect(try await client.read() == large)
    try await sent
    try await client.close()
    try await echo
    await #expect(throws: WebSocket.NotSimulated.self) { _ = try await WebSocket.pair() }
  }

  @Test("a handshake that is refused fails as it does over a network")
  func refused() async throws {
    try await SimulatedLoop.run { _ in
      var options = WebSocketHandshakeOptions()
      options.onRequest = { _ in throw RequestRejection(status: 403, reason: "no") }
      await #expect(throws: WebSocketConnectError.self) { _ = try await WebSocket.pair(server: options) }
    }
  }

  @Test("tasks that go round and round without time passing end a simulation")
  func roundAndRound() async throws {
    let loop = SimulatedLoop()
    loop.maxJobsAtOneTime = 1000
    await #expect(throws: SimulatedLoop.Stuck.self) {
      try await loop.simulate { while true { await Task.yield() } }
    }
  }

  @Test("a task that waits for what can't happen any more is told so")
  func stuck() async throws {
    await #expect(throws: SimulatedLoop.Stuck.self) {
      try await SimulatedLoop.run { _ in
        let (client, _) = try await WebSocket.pair()
        _ = try await client.read()
      }
    }
  }
}
