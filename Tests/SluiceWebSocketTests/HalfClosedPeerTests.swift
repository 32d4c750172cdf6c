import Sluice
import SluiceStreams
import SluiceTLS
import SluiceTestSupport
import SluiceWebSocketProtocol
import Testing

/// A peer may end its half of the connection without a Close and read on, as who pipes frames into netcat does. Nothing more comes from it, so that the
/// connection is lost for who reads; but what was sent leaves, and it gets an end and no reset.
@Suite("A peer that ends without a Close and reads on", .timeLimit(.minutes(1)))
struct HalfClosedPeerTests {
  enum Answer: CaseIterable { case pipe, throughOperator, loop, callbacks, parts, `extension` }

  /// What the peer speaks, over what.
  enum Speech: CaseIterable {
    case plain, tls
    /// The peer ends its half without close_notify, as most that do this do.
    case tlsCutShort
    case hixie76
    /// There, the end is the Close.
    case hixie75

    var isOld: Bool { self == .hixie75 || self == .hixie76 }
  }

  enum When: CaseIterable {
    /// In one piece with the last message.
    case atOnce
    case later
  }

  @Test("gets the answers to what it sent", arguments: Answer.allCases, Speech.allCases)
  func answers(_ answer: Answer, _ speech: Speech) async throws {
    // Extensions came with RFC 6455.
    if speech.isOld, answer == .extension { return }
    let certificates = try await Certificates.load()
    let all = [(3, When.atOnce), (3, .later), (10_000, .atOnce), (10_000, .later)]
    for (size, when) in speech == .plain ? all : [all[0], all[3]] {
      let loop = SimulatedLoop()
      try await loop.simulate {
        var network = SimulatedNetwork(loop: loop)
        network.delay = .milliseconds(1)
        network.window = 8 << 10
        let (near, far) = network.connection()
        let (peer, ws) = try await Self.open(near, far, answer, speech, certificates)
        let application = Task(executorPreference: loop) { await Self.run(answer, ws, speech) }
        let messages = (0..<5).map { Bytes([UInt8](repeating: UInt8(65 + $0), count: size)) }
        var frames = BytesBuilder()
        for message in messages { frames.append(speech.isOld ? Self.oldFrame(message) : frame(0x82, message)) }
        let received = Task(executorPreference: loop) { try await Self.readAll(peer) }
        try await peer.write(frames.take())
        if when == .later { try await loop.sleep(for: .seconds(1)) }
        if speech == .tlsCutShort {
          peer.flush()
          try await near.close()
        } else {
          try await peer.close()
        }
        let all = try await received.value
        #expect(try Self.payloads(in: all, speech) == messages, "\(size) bytes each, \(when)")
        await application.value
        #expect(ws.readyState == .closed)
        try await loop.sleep(for: .seconds(60))
        #expect(loop.openTimers == 0)
      }
    }
  }

  @Test("is cut if it takes nothing for `closeTimeout`", arguments: Answer.allCases)
  func stalls(_ answer: Answer) async throws {
    let certificates = try await Certificates.load()
    let loop = SimulatedLoop()
    try await loop.simulate {
      let network = SimulatedNetwork(loop: loop)
      let (near, far) = network.connection()
      let (_, ws) = try await Self.open(near, far, answer, .plain, certificates)
      far.stall(true)
      let application = Task(executorPreference: loop) { await Self.run(answer, ws, .plain) }
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

  /// - Returns: what the peer writes to and reads, and the server's connection.
  private static func open(
    _ near: SimulatedStream, _ far: SimulatedStream, _ answer: Answer, _ speech: Speech, _ certificates: Certificates
  ) async throws -> (any PolledDuplexStream<Bytes, Bytes>, WebSocket) {
    var options = WebSocketHandshakeOptions()
    if answer == .extension { options.extensions = [Slow()] }
    var (peer, transport): (any PolledDuplexStream<Bytes, Bytes>, any PolledDuplexStream<Bytes, Bytes>) = (near, far)
    if speech == .tls || speech == .tlsCutShort {
      let (client, server) = (try certificates.client(), try certificates.server())
      async let secured = server.accept(over: far)
      peer = try await client.connect(over: near, to: "www.example.com")
      transport = try await secured
    }
    async let accepted = accept(over: transport, options)
    try await peer.write(Self.request(answer, speech))
    var head = ""
    while !head.contains("\r\n\r\n"), let chunk = try await peer.read() { head += chunk.string }
    // The answer to hixie-76's challenge.
    if speech == .hixie76, head.hasSuffix("\r\n\r\n") { _ = try await peer.read() }
    return (peer, try await accepted)
  }

  private static func accept(
    over transport: some PolledDuplexStream<Bytes, Bytes>, _ options: WebSocketHandshakeOptions
  ) async throws -> WebSocket { try await WebSocket.accept(over: transport, options: options) }

  private static func request(_ answer: Answer, _ speech: Speech) -> Bytes {
    let old: Bytes =
      "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nOrigin: http://test\r\n"
    return switch speech {
    case .hixie75: old.followed(by: "\r\n")
    case .hixie76:
      old.followed(
        by: "Sec-WebSocket-Key1: 4 @1  46546xW%0l 1 5\r\nSec-WebSocket-Key2: 12998 5 Y3 1  .P00\r\n\r\n^n:ds[4U")
    default: answer == .extension ? SimulatedWire.request(extensions: "x-slow") : SimulatedWire.request
    }
  }

  /// An echo. However it is written, it is told that the connection is lost, except where the end is a Close.
  private static func run(_ answer: Answer, _ ws: WebSocket, _ speech: Speech) async {
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
      #expect(speech == .hixie75, "\(answer) ended well")
    } catch WebSocketError.connectionLost(let underlying) {
      #expect(underlying as? TLSError == (speech == .tlsCutShort ? .truncated : nil))
      #expect(speech != .hixie75)
    } catch { Issue.record("\(answer): \(error)") }
  }

  /// Takes its time, and changes nothing.
  struct Slow: WebSocketExtension {
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

  private static func readAll(_ near: any PolledDuplexStream<Bytes, Bytes>) async throws -> Bytes {
    var all = BytesBuilder()
    while let chunk = try await near.read() { all.append(chunk) }
    return all.take()
  }

  private static func oldFrame(_ payload: Bytes) -> Bytes { ([0] as Bytes).followed(by: payload).followed(by: [0xFF]) }

  private static func payloads(in bytes: Bytes, _ speech: Speech) throws -> [Bytes] {
    if speech.isOld { return bytes.split(separator: 0xFF).map { Bytes($0.drop { $0 == 0 }) }.filter { !$0.isEmpty } }
    var machine = WebSocketMachine(.client, keys: MaskingKeys())
    var (rest, payloads): (Bytes, [Bytes]) = (bytes, [])
    while let event = try machine.nextEvent(in: &rest) {
      if case .data(let message) = event { payloads.append(message.bytes) }
    }
    return payloads
  }
}
