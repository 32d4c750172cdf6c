import Sluice
import SluiceStreams
import SluiceTestSupport
import SluiceWebSocket
import Testing

/// What a peer sent before it ended arrives, however it ends, and the end is told as it was.
@Suite("Ends of a WebSocket", .timeLimit(.minutes(2)))
struct EndTests {
  /// More than all buffers on their way hold.
  private static let messages = (0..<300).map { "message \($0) " + String(repeating: "m", count: 150) }

  /// How the peer ends.
  enum PeerEnd: CaseIterable, CustomTestStringConvertible {
    case code(UInt16)
    case noCode
    case lost

    static let allCases: [PeerEnd] =
      [1000, 1001, 1003, 1008, 1011, 1012, 1013, 3000, 4000, 4999].map { .code($0) } + [.noCode, .lost]

    var testDescription: String {
      switch self {
      case .code(let code): "\(code)"
      case .noCode: "no code"
      case .lost: "lost"
      }
    }

    /// Whether what came counts as whole.
    var isClean: Bool {
      switch self {
      case .code(let code): [1000, 1001].contains(code) || code >= 3000
      case .noCode: true
      case .lost: false
      }
    }

    /// What another WebSocket is told of it.
    var passedOn: CloseCode {
      switch self {
      case .code(let code): CloseCode(rawValue: code)
      case .noCode: .noStatus
      case .lost: .internalError
      }
    }

    var closeFrame: Bytes? {
      switch self {
      case .code(let code):
        var payload = BytesBuilder()
        payload.append(bigEndian: code)
        payload.append("why")
        return frame(0x88, payload.take())
      case .noCode: return frame(0x88, "")
      case .lost: return nil
      }
    }
  }

  enum Way: CaseIterable { case pipe, bridge, throughOperator }

  /// A server's WebSocket whose client sends the messages and ends so.
  private func open(_ end: PeerEnd, _ network: SimulatedNetwork) async throws -> WebSocket {
    let (near, far) = network.connection()
    let socket = try await SimulatedWire.open(near, far)
    Task(executorPreference: network.loop) {
      for message in Self.messages { try await near.write(frame(0x81, Bytes(message))) }
      if let close = end.closeFrame {
        try await near.write(close)
        while try await near.read() != nil {}
        try await near.close()
      } else {
        try await near.close(after: ConnectionReset())
      }
    }
    return socket
  }

  @Test(
    "all that came before the end arrives behind a slow sink, and the end is told", arguments: PeerEnd.allCases,
    Way.allCases)
  func slowBytes(_ end: PeerEnd, _ way: Way) async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      var network = SimulatedNetwork(loop: loop)
      network.window = 4 << 10
      let socket = try await open(end, network)
      let (near, far) = network.connection()
      async let received = Self.readSlowly(far, loop)
      let thrown = await Self.error {
        let sink = near.behind(MessageEncoder(.lines))
        switch way {
        case .pipe: try await socket.pipe(sink)
        case .throughOperator: try await socket.map { $0 }.pipe(sink)
        case .bridge:
          try await bridge(socket, JoinedStream(reading: SequenceStream<Message>([]), writing: sink))
        }
      }
      #expect(try await received == Self.messages.map { $0 + "\n" }.joined())
      switch (end, thrown as? WebSocketError) {
      case (.code(let code), .closed(let told, let reason)?):
        #expect(told.rawValue == code && reason == "why" && !end.isClean)
      case (.lost, .connectionLost?): break
      default: #expect(thrown == nil && end.isClean)
      }
      if case .code(let code) = end {
        #expect(socket.closeStatus?.code.rawValue == code)
      }
    }
  }

  @Test("another WebSocket gets all of it, and the same code and reason", arguments: PeerEnd.allCases, Way.allCases)
  func proxy(_ end: PeerEnd, _ way: Way) async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      let network = SimulatedNetwork(loop: loop)
      let socket = try await open(end, network)
      let (near, far) = network.connection()
      async let accepted = WebSocket.accept(over: far)
      let front = try await WebSocket.connect("ws://test/", over: near)
      let visitor = try await accepted
      async let thrown = Self.error {
        switch way {
        case .pipe: try await socket.pipe(visitor)
        case .throughOperator: try await socket.map { $0 }.pipe(visitor)
        case .bridge: try await bridge(socket, visitor)
        }
      }
      var received: [String] = []
      do { for try await message in front { received.append(message.text) } } catch {}
      #expect(received == Self.messages)
      #expect(front.closeStatus?.code == end.passedOn)
      if case .code = end { #expect(front.closeStatus?.reason == "why") }
      #expect(await (thrown == nil) == end.isClean)
    }
  }

  @Test("a Close that failed before a bridge began is what the bridge throws, and passes on", arguments: [1011, 4321])
  func endedBefore(_ code: UInt16) async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      let network = SimulatedNetwork(loop: loop)
      let socket = try await open(.code(code), network)
      try await loop.sleep(for: .seconds(1))
      var count = 0
      while count < Self.messages.count, try await socket.read() != nil { count += 1 }
      try await loop.sleep(for: .seconds(1))
      let (near, far) = network.connection()
      async let accepted = WebSocket.accept(over: far)
      let front = try await WebSocket.connect("ws://test/", over: near)
      let visitor = try await accepted
      async let thrown = Self.error { try await bridge(visitor, socket) }
      do { while try await front.read() != nil {} } catch {}
      #expect(front.closeStatus?.code.rawValue == code)
      #expect(await (thrown == nil) == (code >= 3000))
    }
  }

  @Test("a peer that reads slowly, and steadily, gets all before our Close, however short closeTimeout is")
  func slowPeer() async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      var network = SimulatedNetwork(loop: loop)
      network.window = 256 << 10
      network.pieceSize = 500
      let (near, far) = network.connection()
      var options = WebSocketHandshakeOptions()
      options.connection.closeTimeout = .seconds(2)
      let socket = try await SimulatedWire.open(near, far, options: options)
      async let closed: Void = {
        for number in 0..<200 { try await socket.send(String(repeating: "x", count: 1000) + "\(number)") }
        try await socket.close(.normal)
      }()
      var count = 0
      // 200 KB at 1 KB/s.
      while let chunk = try await near.read() {
        count += chunk.count
        try await loop.sleep(for: .milliseconds(chunk.count))
        if count > 200_000 { break }
      }
      try await near.write(frame(0x88, ""))
      while try await near.read() != nil {}
      try await near.close()
      try await closed
      #expect(socket.closeStatus?.code == .noStatus)
    }
  }

  @Test("a peer that answers a while after our end is heard, though it drops what it reads behind a Close")
  func lateAnswer() async throws {
    try await SimulatedConnection.run { ends, loop in
      let (program, standardIO) = MemoryStream<Message>.pair()
      let bridged = Task(executorPreference: loop) { try await bridge(standardIO, ends.client) }
      try await program.write("question")
      try await program.close()
      #expect(try await ends.server.read() == "question")
      try await loop.sleep(for: .milliseconds(500))
      #expect(ends.server.closeStatus == nil)
      try await ends.server.send("answer")
      #expect(try await program.read() == "answer")
      #expect(try await ends.server.read() == nil)
      #expect(ends.server.closeStatus?.code == .normal)
      try await bridged.value
      #expect(try await program.read() == nil)
    }
  }

  @Test("a program whose reader has gone ends the whole, with 1000, though its input goes on")
  func readerOfProgramHasGone() async throws {
    try await SimulatedConnection.run { ends, loop in
      let (input, _) = MemoryStream<Message>.pair()
      let (output, reader) = MemoryStream<Message>.pair()
      let standardIO = JoinedStream(reading: input, writing: output, endsWithReader: true)
      let bridged = Task(executorPreference: loop) { try await bridge(standardIO, ends.client) }
      reader.cancel()
      try await ends.server.send("to nobody")
      #expect(try await ends.server.read() == nil)
      #expect(ends.server.closeStatus?.code == .normal)
      try await bridged.value
    }
  }

  private static func readSlowly(_ stream: SimulatedStream, _ loop: SimulatedLoop) async throws -> String {
    var all = BytesBuilder()
    do {
      while let chunk = try await stream.read() {
        all.append(chunk)
        try await loop.sleep(for: .seconds(1))
      }
    } catch {}
    return all.take().string
  }

  private static func error(_ body: () async throws -> Void) async -> (any Error)? {
    do {
      try await body()
      return nil
    } catch {
      return error
    }
  }
}
