import Sluice
import SluiceTestSupport
import Testing

@Suite("Keepalive and idleness", .timeLimit(.minutes(2)))
struct LivenessTests {
  private static func keepalive() -> WebSocketHandshakeOptions {
    var options = WebSocketHandshakeOptions()
    options.connection.keepalive = .init(interval: .seconds(20), timeout: .seconds(10))
    return options
  }

  @Test("a silent peer is pinged, and cut if it stays silent")
  func silence() async throws {
    try await SimulatedWire.run { near, far, loop in
      let socket = try await SimulatedWire.open(near, far, options: Self.keepalive())
      let start = loop.now
      let end = Task(executorPreference: loop) { try await socket.read() }
      #expect(try await near.read()?.first == 0x89)
      #expect(loop.now - start == .seconds(20))
      await #expect(throws: WebSocketError.self) { try await end.value }
      #expect(loop.now - start == .seconds(30))
      #expect(socket.readyState == .closed)
    }
  }

  @Test("any byte is a sign of life, and a pong is found though nobody reads")
  func life() async throws {
    try await SimulatedWire.run { near, far, loop in
      let socket = try await SimulatedWire.open(near, far, options: Self.keepalive())
      for _ in 0..<5 {
        let ping = try #require(try await near.read())
        #expect(ping.first == 0x89)
        try await near.write(frame(0x8A, ping.dropFirst(2)))
      }
      for _ in 0..<10 {
        try await loop.sleep(for: .seconds(15))
        try await near.write(frame(0x81, "a"))
      }
      for _ in 0..<10 { #expect(try await socket.read() == "a") }
      #expect(socket.readyState == .open)
      socket.abort(StreamError.aborted)
    }
  }

  @Test("the time rests while this side does not read")
  func slowReader() async throws {
    try await SimulatedWire.run { near, far, loop in
      let socket = try await SimulatedWire.open(near, far, options: Self.keepalive())
      let message = frame(0x82, Bytes([UInt8](repeating: 1, count: 10_000)))
      let sending = Task(executorPreference: loop) {
        for _ in 0..<100 { try await near.write(message) }
        while try await near.read() != nil {}
      }
      try await loop.sleep(for: .seconds(300))
      #expect(socket.readyState == .open)
      for _ in 0..<100 { #expect(try await socket.read()?.bytes.count == 10_000) }
      socket.abort(StreamError.aborted)
      _ = await sending.result
    }
  }

  @Test("a connection without messages is closed with 1001; pings are none")
  func idle() async throws {
    var options = WebSocketHandshakeOptions()
    options.connection.idleTimeout = .seconds(60)
    let final = options
    try await SimulatedWire.run { near, far, loop in
      let socket = try await SimulatedWire.open(near, far, options: final)
      let start = loop.now
      let end = Task(executorPreference: loop) {
        while try await socket.read() != nil {}
      }
      for _ in 0..<5 {
        try await loop.sleep(for: .seconds(30))
        try await near.write(frame(0x81, "a"))
      }
      for _ in 0..<3 {
        try await near.write(frame(0x89, ""))
        #expect(try await near.read()?.first == 0x8A)
        try await loop.sleep(for: .seconds(10))
      }
      #expect(try await near.read() == [0x88, 0x02, 0x03, 0xE9])
      #expect(loop.now - start <= .seconds(270))
      await #expect(throws: WebSocketError.self) { try await end.value }
      try await near.close()
      #expect(try await near.read() == nil)
    }
  }

  @Test("a pong that nobody asked for may be sent")
  func pong() async throws {
    try await SimulatedWire.run { near, far, _ in
      let socket = try await SimulatedWire.open(near, far)
      try await socket.pong("hi")
      #expect(try await near.read() == [0x8A, 0x02, 0x68, 0x69])
      await #expect(throws: WebSocketError.self) { try await socket.pong(Bytes([UInt8](repeating: 0, count: 126))) }
      socket.abort(StreamError.aborted)
    }
  }
}
