import Logging
import Sluice
import SluiceStreams
import SluiceTestSupport
import Synchronization
import Testing

@testable import SluiceWebSocket

@Suite("How a WebSocket is closed", .timeLimit(.minutes(1)))
struct ClosingTests {
  private static let mayBeSent = Array(UInt16(1000)...1003) + Array(1007...1014) + [3000, 4999]

  @Test("either side closes with every code that may be on the wire", arguments: mayBeSent, [true, false])
  func codes(code: UInt16, fromServer: Bool) async throws {
    try await SimulatedConnection.run { ends, loop in
      let (closing, other) = fromServer ? (ends.server, ends.client) : (ends.client, ends.server)
      async let closed: Void = closing.close(CloseCode(rawValue: code), "why")
      do {
        #expect(try await other.read() == nil)
        #expect(CloseCode(rawValue: code).isCleanEnd)
      } catch WebSocketError.closed(let theirs, let reason) {
        #expect(theirs.rawValue == code && reason == "why")
      }
      try await closed
      #expect(other.closeStatus?.code.rawValue == code)
    }
  }

  @Test(
    "a proxy passes on what it got",
    arguments: zip([1000, 1001, 1011, 4321, 1005, 1006, 1015], [1000, 1001, 1011, 4321, 0, 1011, 1011] as [UInt16]))
  func passedOn(code: UInt16, wire: UInt16) async throws {
    try await SimulatedWire.run { near, far, _ in
      let ws = try await SimulatedWire.open(near, far)
      async let closed: Void = ws.close(passingOn: CloseCode(rawValue: code), "")
      let expected: Bytes = wire == 0 ? [0x88, 0] : [0x88, 2, UInt8(wire >> 8), UInt8(wire & 0xFF)]
      #expect(try await near.read() == expected)
      try await near.write(frame(0x88, []))
      try await near.close()
      try await closed
    }
  }

  @Test("in a task that is cancelled, before or meanwhile, the Close leaves with its code", arguments: [true, false])
  func cancelled(before: Bool) async throws {
    try await SimulatedConnection.run(delay: .milliseconds(10)) { ends, loop in
      let start = loop.now
      let closing = Task(executorPreference: loop) {
        if before { while !Task.isCancelled { await Task.yield() } }
        try await ends.server.close(CloseCode(rawValue: 4001), "bye")
      }
      if !before { try await loop.sleep(for: .milliseconds(1)) }
      closing.cancel()
      await #expect(throws: CancellationError.self) { try await closing.value }
      #expect(loop.now - start < .milliseconds(10))
      #expect(try await ends.client.read() == nil)
      #expect(ends.client.closeStatus?.code.rawValue == 4001)
      try await loop.sleep(for: .seconds(1))
      #expect(ends.server.readyState == .closed)
      // Closing what is closed is success, also for who is cancelled.
      let again = Task(executorPreference: loop) {
        while !Task.isCancelled { await Task.yield() }
        try await ends.server.close()
      }
      again.cancel()
      try await again.value
    }
  }

  @Test("idleness ends after its time, and not after twice that", arguments: [1, 7, 59])
  func idle(seconds: Int) async throws {
    var options = WebSocketHandshakeOptions()
    options.connection.idleTimeout = .seconds(60)
    let final = options
    try await SimulatedWire.run { near, far, loop in
      let ws = try await SimulatedWire.open(near, far, options: final)
      let reading = Task(executorPreference: loop) { while try await ws.read() != nil {} }
      for _ in 0..<3 {
        try await loop.sleep(for: .seconds(seconds))
        try await near.write(frame(0x81, "a"))
      }
      try await loop.sleep(for: .milliseconds(500))
      try await ws.send("b")
      let last = loop.now
      #expect(try await near.read()?.first == 0x81)
      #expect(try await near.read() == [0x88, 2, 0x03, 0xE9])
      #expect(loop.now - last >= .seconds(60) && loop.now - last <= .seconds(66))
      ws.abort(StreamError.aborted)
      _ = await reading.result
    }
  }

  @Test("times of any size are waited for, and trap nothing")
  func centuries() async throws {
    var options = WebSocketServerOptions()
    let ages = Duration.seconds(Int64.max)
    options.connection.idleTimeout = ages
    options.connection.keepalive = .init(interval: ages, timeout: ages)
    options.connection.stallTimeout = ages
    options.connection.closeTimeout = ages
    options.connection.writeHighWatermark = 0
    #expect(options.connection.writeHighWatermark == 1)
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0", options: options)
    let running = Task { try await server.run { ws in try await ws.pipe(ws) } }
    let client = try await WebSocket.connect(server.url)
    for number in 0..<10 {
      try await client.send("\(number)")
      #expect(try await client.read()?.text == "\(number)")
    }
    try await client.close()
    running.cancel()
    _ = await running.result
  }

  @Test("a client that is dropped without close is closed, and told in the log")
  func dropped() async throws {
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    let ends = Mutex<[UInt16]>([])
    let running = Task {
      try await server.run { ws in
        try? await ws.pipe(ws)
        let code = ws.closeStatus?.code.rawValue
        ends.withLock { $0.append(code ?? 0) }
      }
    }
    for number in 0..<50 {
      let ws = try await WebSocket.connect(server.url)
      try await ws.send("\(number)")
      if number % 2 == 0 { #expect(try await ws.read()?.text == "\(number)") }
    }
    for _ in 0..<1000 where ends.withLock({ $0.count }) < 50 { try await Task.sleep(for: .milliseconds(5)) }
    #expect(ends.withLock { $0 } == [UInt16](repeating: 1001, count: 50))
    running.cancel()
    _ = await running.result
  }

  @Test("a client that is used, by a task, a pipe or events alone, is not dropped")
  func used() async throws {
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    let running = Task { try await server.run { ws in try await ws.pipe(ws) } }
    let seen = Mutex<[String]>([])
    func hear() async throws {
      let events = WebSocketCallbacks(try await WebSocket.connect(server.url))
      events.onMessage { message in seen.withLock { $0.append(message.text) } }
      events.trySend("events")
    }
    try await hear()
    let reading = try await Self.readOn(server.url)
    for _ in 0..<1000 where seen.withLock({ $0.isEmpty }) { try await Task.sleep(for: .milliseconds(5)) }
    #expect(seen.withLock { $0 } == ["events"])
    #expect(try await reading.value == "task")
    running.cancel()
    _ = await running.result
  }

  private static func readOn(_ url: String) async throws -> Task<String?, any Error> {
    let ws = try await WebSocket.connect(url)
    return Task {
      async let message = ws.read()
      try await Task.sleep(for: .milliseconds(50))
      try await ws.send("task")
      return try await message?.text
    }
  }
}
