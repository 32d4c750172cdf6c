import Sluice
import SluiceStreams
import SluiceTestSupport
import SluiceWebSocketProtocol
import Testing

@testable import SluiceWebSocket

/// What is held for a connection is what its limits say, of messages of 0 and 1 byte too.
@Suite("Memory of the smallest messages", .timeLimit(.minutes(2)))
struct HeldMemoryTests {
  enum Queue: CaseIterable { case readAhead, fragmentsAhead, slowExtension }

  private static let connections = 40
  private static let sent = 40_000

  @Test("connections that nobody reads hold little each", arguments: Queue.allCases, [0, 1])
  func unread(queue: Queue, size: Int) async throws {
    var options = WebSocketServerOptions()
    if queue == .slowExtension { options.extensions = [Slow()] }
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0", options: options)
    var clients: [any PolledDuplexStream<Bytes, Bytes>] = []
    var sockets: [WebSocket] = []
    for _ in 0..<Self.connections {
      async let accepted = server.connections.read()
      let client = try await TCP.connect("127.0.0.1", port: server.port)
      let request = queue == .slowExtension ? SimulatedWire.request(extensions: "x-slow") : SimulatedWire.request
      try await client.write(request)
      _ = try await client.read()
      clients.append(client)
      sockets.append(try #require(try await accepted))
    }
    let payload = Bytes([UInt8](repeating: 120, count: size))
    var wire = BytesBuilder()
    if queue == .fragmentsAhead {
      wire.append(frame(0x01, payload))
      for _ in 1..<Self.sent { wire.append(frame(0x00, payload)) }
    } else {
      for _ in 0..<Self.sent { wire.append(frame(0x81, payload)) }
    }
    let bytes = wire.take()
    let before = residentMemory()
    let sending = clients.map { client in Task { try await client.write(bytes) } }
    try await Task.sleep(for: .milliseconds(1500))
    let grown = residentMemory() - before
    // The bytes of a client may still wait for its socket; 64 KiB are held of each connection, and a read of 256 KiB once.
    #expect(grown < 48 << 20, "\(grown >> 20) MiB")
    let opened = sockets
    let held = try await UVLoop.shared.run { opened.map { $0.incoming.ahead.byteCount } }
    #expect(held.allSatisfy { $0 < 66 << 10 })
    for socket in sockets { socket.abort(StreamError.aborted) }
    for client in clients { client.abort(StreamError.aborted) }
    for task in sending { _ = await task.result }
    server.stop()
  }

  /// Takes a minute for a message.
  private struct Slow: WebSocketExtension {
    let name = "x-slow"
    let reservedBits: ReservedBits = []
    func offers() -> [ExtensionParameters] { [ExtensionParameters(name)] }
    func answer(_ offers: [ExtensionParameters]) -> ExtensionAnswer? {
      ExtensionAnswer(parameters: ExtensionParameters(name), session: Session())
    }
    func accept(_ answer: ExtensionParameters) throws -> any ExtensionSession { Session() }

    final class Session: ExtensionSession {
      func decode(_ message: ExtensionMessage) async throws -> ExtensionMessage {
        try? await Task.sleep(for: .seconds(5))
        return message
      }
      func encode(_ message: ExtensionMessage) async throws -> ExtensionMessage { message }
      func close() {}
    }
  }

  @Test("a driver finds messages as they are asked for, and all of them")
  func driver() throws {
    let driver = WebSocketDriver.server()
    driver.receive(SimulatedWire.request)
    var wire = BytesBuilder()
    for _ in 0..<Self.sent { wire.append(frame(0x81, "")) }
    wire.append(frame(0x89, "ping"))
    wire.append(frame(0x88, [0x03, 0xE8]))
    driver.receive(wire.take())
    driver.receiveEnd()
    var messages = 0
    var last: WebSocketDriver.Event?
    while let event = driver.nextEvent() {
      if case .message = event { messages += 1 }
      last = event
    }
    #expect(messages == Self.sent)
    if case .close(.normal, _) = last {} else { Issue.record("\(String(describing: last))") }
    #expect(driver.isOver)
  }

  @Test("a peer that reads nothing is cut, though it sends and answers pings; one that is slow is not")
  func stalled() async throws {
    var options = WebSocketHandshakeOptions()
    options.connection.stallTimeout = .seconds(20)
    options.connection.keepalive = .init(interval: .seconds(5), timeout: .seconds(5))
    let final = options
    try await SimulatedWire.run { near, far, loop in
      let ws = try await SimulatedWire.open(near, far, options: final)
      let sending = Task(executorPreference: loop) {
        while true { try await ws.send(Bytes([UInt8](repeating: 1, count: 10_000))) }
      }
      let reading = Task(executorPreference: loop) { while try await ws.read() != nil {} }
      // Slow: a little now and then, for much longer than the time.
      for _ in 0..<20 {
        try await loop.sleep(for: .seconds(10))
        _ = try await near.read()
        try await near.write(frame(0x81, "I am here"))
      }
      #expect(ws.readyState == .open)
      for _ in 0..<10 {
        try await loop.sleep(for: .seconds(3))
        try? await near.write(frame(0x8A, "pong"))
      }
      do {
        try await sending.value
      } catch WebSocketError.stalled(let time) {
        #expect(time == .seconds(20))
      }
      await #expect(throws: WebSocketError.self) { try await reading.value }
      #expect(ws.readyState == .closed)
    }
  }
}
