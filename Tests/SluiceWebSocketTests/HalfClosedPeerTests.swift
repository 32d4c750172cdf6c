import Sluice
import SluiceTestSupport
import SluiceWebSocketProtocol
import Testing

/// A peer may end its half of the connection without a Close and read on, as who pipes frames into netcat does. Nothing more comes from it, so that the
/// connection is lost for who reads; but what was sent leaves, and it gets an end and no reset.
@Suite("A peer that ends without a Close and reads on", .timeLimit(.minutes(1)))
struct HalfClosedPeerTests {
  enum Answer: CaseIterable { case pipe, throughOperator, loop, callbacks, parts, `extension` }

  enum When: CaseIterable {
    /// In one piece with the last message.
    case atOnce
    case later
  }

  @Test("gets the answers to what it sent", arguments: Answer.allCases, When.allCases)
  func answers(_ answer: Answer, _ when: When) async throws {
    for size in [3, 30_000] {
      let loop = SimulatedLoop()
      try await loop.simulate {
        var network = SimulatedNetwork(loop: loop)
        network.delay = .milliseconds(1)
        network.window = 8 << 10
        let (near, far) = network.connection()
        let ws = try await Self.open(near, far, answer)
        let application = Task(executorPreference: loop) { await Self.run(answer, ws) }
        let messages = (0..<5).map { Bytes([UInt8](repeating: UInt8(65 + $0), count: size)) }
        var frames = BytesBuilder()
        for message in messages { frames.append(frame(0x82, message)) }
        let received = Task(executorPreference: loop) { try await Self.readAll(near) }
        try await near.write(frames.take())
        if when == .later { try await loop.sleep(for: .seconds(1)) }
        try await near.close()
        #expect(try Self.payloads(in: await received.value) == messages, "\(size) bytes each")
        await application.value
        #expect(ws.readyState == .closed)
        try await loop.sleep(for: .seconds(60))
        #expect(loop.openTimers == 0)
      }
    }
  }

  @Test("is cut if it takes nothing for `closeTimeout`", arguments: Answer.allCases)
  func stalls(_ answer: Answer) async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      let network = SimulatedNetwork(loop: loop)
      let (near, far) = network.connection()
      let ws = try await Self.open(near, far, answer)
      far.stall(true)
      let application = Task(executorPreference: loop) { await Self.run(answer, ws) }
      try await near.write(frame(0x82, "unheard"))
      try await loop.sleep(for: .seconds(1))
      try await near.close()
      let start = loop.now
      await #expect(throws: ConnectionReset.self) { try await Self.readAll(near) }
      #expect(loop.now - start <= .seconds(13))
      await application.value
      try await loop.sleep(for: .seconds(60))
      #expect(loop.openTimers == 0)
    }
  }

  @Test("and `close` says that it did not answer, once all has left", arguments: [true, false])
  func close(isClosing: Bool) async throws {
    try await SimulatedWire.run(delay: .milliseconds(1)) { near, far, loop in
      let ws = try await SimulatedWire.open(near, far)
      try await ws.send("last")
      let received = Task(executorPreference: loop) { try await Self.readAll(near) }
      if isClosing {
        let closing = Task(executorPreference: loop) { try await ws.close() }
        try await loop.sleep(for: .seconds(1))
        try await near.close()
        await #expect(throws: WebSocketError.self) { try await closing.value }
        #expect(try await received.value.suffix(4) == [0x88, 2, 0x03, 0xE8])
      } else {
        try await near.close()
        #expect(try await received.value.suffix(4).string == "last")
        await #expect(throws: WebSocketError.self) { try await ws.send("too late") }
        await #expect(throws: WebSocketError.self) { try await ws.close() }
      }
      try await loop.sleep(for: .seconds(60))
      #expect(loop.openTimers == 0 && ws.readyState == .closed)
    }
  }

  // MARK: the server

  private static func open(
    _ near: SimulatedStream, _ far: SimulatedStream, _ answer: Answer
  ) async throws -> WebSocket {
    guard answer == .extension else { return try await SimulatedWire.open(near, far) }
    var options = WebSocketHandshakeOptions()
    options.extensions = [Slow()]
    async let accepted = WebSocket.accept(over: far, options: options)
    try await near.write(SimulatedWire.request(extensions: "x-slow"))
    _ = try await SimulatedWire.readHead(near)
    return try await accepted
  }

  /// An echo. However it is written, it is told that the connection is lost.
  private static func run(_ answer: Answer, _ ws: WebSocket) async {
    do {
      switch answer {
      case .pipe: try await ws.pipe(ws)
      case .throughOperator: try await ws.map { $0 }.pipe(ws)
      case .loop, .extension: for try await message in ws { try await ws.send(message) }
      case .parts: while let part = try await ws.parts.read() { try await ws.parts.write(part) }
      case .callbacks:
        let callbacks = WebSocketCallbacks(ws)
        callbacks.onMessage { callbacks.trySend($0) }
        await callbacks.waitUntilClosed()
        return
      }
      Issue.record("\(answer) ended well")
    } catch WebSocketError.connectionLost(nil) {} catch { Issue.record("\(answer): \(error)") }
  }

  /// Takes its time, and changes nothing.
  private struct Slow: WebSocketExtension {
    var name: String { "x-slow" }
    var reservedBits: ReservedBits { [] }

    func offers() -> [ExtensionParameters] { [ExtensionParameters(name)] }
    func answer(_ offers: [ExtensionParameters]) -> ExtensionAnswer? {
      ExtensionAnswer(parameters: ExtensionParameters(name), session: Session())
    }
    func accept(_ answer: ExtensionParameters) throws -> any ExtensionSession { Session() }

    final class Session: ExtensionSession {
      func decode(_ message: ExtensionMessage) async throws -> ExtensionMessage { message }
      func encode(_ message: ExtensionMessage) async throws -> ExtensionMessage {
        for _ in 0..<20 { await Task.yield() }
        return message
      }
      func close() {}
    }
  }

  // MARK: the peer

  private static func readAll(_ near: SimulatedStream) async throws -> Bytes {
    var all = BytesBuilder()
    while let chunk = try await near.read() { all.append(chunk) }
    return all.take()
  }

  private static func payloads(in bytes: Bytes) throws -> [Bytes] {
    var machine = WebSocketMachine(.client, keys: MaskingKeys())
    var (rest, payloads): (Bytes, [Bytes]) = (bytes, [])
    while let event = try machine.nextEvent(in: &rest) {
      if case .data(let message) = event { payloads.append(message.bytes) }
    }
    return payloads
  }
}
