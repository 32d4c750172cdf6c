import Sluice
import SluiceTestSupport
import SluiceWebSocketProtocol
import Synchronization
import Testing

@Suite("Extensions of one's own", .timeLimit(.minutes(2)))
struct ExtensionTests {
  /// Turns the bytes of messages around, and takes its time.
  private struct Reversing: WebSocketExtension {
    let name: String
    let reservedBits: ReservedBits
    let log: Log
    var fails: String?
    var failsToEncode: String?

    func offers() -> [ExtensionParameters] { [ExtensionParameters(name)] }
    func answer(_ offers: [ExtensionParameters]) -> ExtensionAnswer? {
      ExtensionAnswer(parameters: ExtensionParameters(name), session: Session(self))
    }
    func accept(_ answer: ExtensionParameters) throws -> any ExtensionSession { Session(self) }

    final class Session: ExtensionSession {
      let owner: Reversing
      init(_ owner: Reversing) { self.owner = owner }

      func decode(_ message: ExtensionMessage) async throws -> ExtensionMessage {
        for _ in 0..<(message.bytes.count % 5) { await Task.yield() }
        if let text = owner.fails, message.bytes.string == text { throw Failure() }
        var message = message
        message.reserved.subtract(owner.reservedBits)
        message.bytes = Bytes(message.bytes.reversed())
        owner.log.add("decode")
        return message
      }

      func encode(_ message: ExtensionMessage) async throws -> ExtensionMessage {
        for _ in 0..<(message.bytes.count % 7) { await Task.yield() }
        if let text = owner.failsToEncode, message.bytes.string == text { throw Failure() }
        var message = message
        message.reserved.formUnion(owner.reservedBits)
        message.bytes = Bytes(message.bytes.reversed())
        return message
      }

      func close() { owner.log.add("close") }
    }
  }

  private struct Failure: Error {}

  private final class Log: Sendable {
    private let entries = Mutex<[String]>([])
    func add(_ entry: String) { entries.withLock { $0.append(entry) } }
    var all: [String] { entries.withLock { $0 } }
  }

  @Test("messages and the Close stay in order through sessions that take their time, then those are closed")
  func order() async throws {
    let log = Log()
    var server = WebSocketHandshakeOptions()
    server.extensions = [Reversing(name: "x-reverse", reservedBits: .rsv2, log: log), PermessageDeflate()]
    var client = WebSocketRequestOptions()
    client.extensions = [Reversing(name: "x-reverse", reservedBits: .rsv2, log: Log()), PermessageDeflate()]
    try await SimulatedConnection.run(pieceSize: 100, server: server, client: client) { ends, loop in
      async let served: Void = ends.server.pipe(ends.server)
      let texts = (0..<100).map { String(repeating: "message \($0) ", count: $0 * 3) }
      async let sent: Void = {
        for text in texts { try await ends.client.send(text) }
        try await ends.client.close(.normal)
      }()
      for text in texts { #expect(try await ends.client.read()?.text == text) }
      #expect(try await ends.client.read() == nil)
      try await sent
      try await served
      // The connection lingers until its peer's end has come.
      try await loop.sleep(for: .seconds(1))
    }
    #expect(log.all == [String](repeating: "decode", count: 100) + ["close"])
  }

  @Test("what fails in an extension comes behind the messages before it, and the peer is told 1011")
  func failure() async throws {
    var server = WebSocketHandshakeOptions()
    server.extensions = [Reversing(name: "x-reverse", reservedBits: .rsv2, log: Log(), fails: "dab")]
    var client = WebSocketRequestOptions()
    client.extensions = [Reversing(name: "x-reverse", reservedBits: .rsv2, log: Log())]
    try await SimulatedConnection.run(server: server, client: client) { ends, _ in
      for text in ["one", "two", "three", "bad", "four"] { try await ends.client.send(text) }
      for text in ["one", "two", "three"] { #expect(try await ends.server.read()?.text == text) }
      await #expect(throws: WebSocketError.self) { try await ends.server.read() }
      await #expect(throws: WebSocketError.self) { try await ends.client.read() }
      #expect(ends.client.closeStatus?.code == .internalError)
    }
  }

  @Test("a reader that is slow holds the peer, whatever the extensions do")
  func backpressure() async throws {
    var server = WebSocketHandshakeOptions()
    server.extensions = [Reversing(name: "x-reverse", reservedBits: .rsv2, log: Log())]
    var client = WebSocketRequestOptions()
    client.extensions = [Reversing(name: "x-reverse", reservedBits: .rsv2, log: Log())]
    try await SimulatedConnection.run(server: server, client: client) { ends, loop in
      let count = Mutex(0)
      let sending = Task(executorPreference: loop) {
        for _ in 0..<1000 {
          try await ends.client.send(Bytes([UInt8](repeating: 7, count: 10_000)))
          count.withLock { $0 += 1 }
        }
        try await ends.client.close(.normal)
      }
      _ = try await ends.server.read()
      try await loop.sleep(for: .seconds(1))
      #expect(count.withLock { $0 } < 100)
      var rest = 0
      while try await ends.server.read() != nil { rest += 1 }
      #expect(rest == 999)
      try await sending.value
    }
  }

  @Test("a message that can't be encoded behind the peer's Close: the peer gets what was whole before it, and 1011")
  func encodingFailsBehindClose() async throws {
    var options = WebSocketHandshakeOptions()
    options.extensions = [Reversing(name: "x-reverse", reservedBits: [], log: Log(), failsToEncode: "third message")]
    let final = options
    try await SimulatedWire.run { near, far, loop in
      async let accepted = WebSocket.accept(over: far, options: final)
      try await near.write(SimulatedWire.request(extensions: "x-reverse"))
      _ = try await SimulatedWire.readHead(near)
      let ws = try await accepted
      try await loop.run {
        for text in ["one", "two", "third message", "four"] { try ws.push(Message(text)) }
      }
      try await near.write(frame(0x88, [0x03, 0xE8]))
      _ = try? await ws.read()
      var wire = [UInt8]()
      while wire.count < 14, let chunk = try await near.read() { wire += chunk }
      #expect(wire == [0x81, 3] + Array("eno".utf8) + [0x81, 3] + Array("owt".utf8) + [0x88, 2, 0x03, 0xF3])
      await #expect(throws: WebSocketError.self) { try await ws.send("late") }
      ws.abort(StreamError.aborted)
    }
  }
}
