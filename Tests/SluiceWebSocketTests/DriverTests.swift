import Sluice
import SluiceTestSupport
import Testing

@Suite("The driver without a connection", .timeLimit(.minutes(1)))
struct DriverTests {
  /// Two drivers that talk with each other until neither has anything to say.
  private struct Pair {
    let client: WebSocketDriver
    let server: WebSocketDriver
    var clientEvents: [WebSocketDriver.Event] = []
    var serverEvents: [WebSocketDriver.Event] = []
    let pieceSize: Int

    init(_ client: WebSocketDriver, _ server: WebSocketDriver, pieceSize: Int = .max) {
      self.client = client
      self.server = server
      self.pieceSize = pieceSize
    }

    mutating func run() {
      while true {
        let (there, back) = (client.takeOutput(), server.takeOutput())
        if there.isEmpty && back.isEmpty { return }
        for piece in pieces(there) { server.receive(piece) }
        for piece in pieces(back) { client.receive(piece) }
        while let event = client.nextEvent() { clientEvents.append(event) }
        while let event = server.nextEvent() { serverEvents.append(event) }
      }
    }

    private func pieces(_ bytes: Bytes) -> [Bytes] {
      stride(from: 0, to: bytes.count, by: min(pieceSize, max(bytes.count, 1))).map {
        bytes.dropFirst($0).prefix(pieceSize)
      }
    }
  }

  private func describe(_ events: [WebSocketDriver.Event]) -> [String] {
    events.map { event in
      switch event {
      case .open: "open"
      case .message(let message): "\(message.kind) \(message.bytes.count) \(message.text.prefix(8))"
      case .ping(let payload): "ping \(payload.string)"
      case .pong(let payload): "pong \(payload.string)"
      case .close(let code, let reason): "close \(code.rawValue) \(reason)"
      case .failed(let error): "failed \(error)"
      }
    }
  }

  @Test("a conversation, in one piece and byte by byte, with and without compression", arguments: [Int.max, 1, 7])
  func conversation(pieceSize: Int) throws {
    for compresses in [false, true] {
      var serverOptions = WebSocketHandshakeOptions()
      serverOptions.protocols = ["b", "a"]
      var clientOptions = WebSocketRequestOptions()
      if compresses {
        serverOptions.extensions = [PermessageDeflate()]
        clientOptions.extensions = [PermessageDeflate()]
      }
      var pair = Pair(
        try .client("ws://test/chat?x=1", protocols: ["a", "b"], options: clientOptions),
        .server(options: serverOptions), pieceSize: pieceSize)
      // Kept until the handshake is done.
      try pair.client.send("early")
      try pair.server.send("early too")
      pair.run()
      #expect(pair.server.request?.path == "/chat?x=1" && pair.client.response?.status == 101)
      #expect(pair.client.protocol == "b" && pair.server.protocol == "b" && pair.server.version == .hybi13)
      let long = String(repeating: "sluice ", count: 10_000)
      try pair.client.send(Message(long))
      try pair.client.ping("hello")
      try pair.server.send(.binary([1, 2, 3]))
      try pair.server.pong("unasked")
      pair.run()
      try pair.client.close(CloseCode(rawValue: 4001), "done")
      #expect(throws: StreamError.closed) { try pair.client.send("late") }
      pair.run()
      #expect(
        describe(pair.serverEvents) == ["open", "text 5 early", "text 70000 sluice s", "ping hello", "close 4001 done"])
      #expect(
        describe(pair.clientEvents) == [
          "open", "text 9 early to", "binary 3 \u{1}\u{2}\u{3}", "pong unasked", "pong hello", "close 4001 ",
        ])
      #expect(pair.client.isOver && pair.server.isOver)
    }
  }

  @Test("hixie-76, its literal bytes from the draft, however they are cut", arguments: [Int.max, 1, 5])
  func hixie(pieceSize: Int) throws {
    let request: Bytes = """
      GET /demo HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nSec-WebSocket-Key2: 12998 5 Y3 1  .P00\r\n\
      Upgrade: WebSocket\r\nSec-WebSocket-Key1: 4 @1  46546xW%0l 1 5\r\nOrigin: http://example.com\r\n\r\n\
      ^n:ds[4U
      """
    let driver = WebSocketDriver.server()
    let all = request.followed(by: [0x00, 0x48, 0x69, 0xFF, 0xFF, 0x00])
    for start in stride(from: 0, to: all.count, by: min(pieceSize, all.count)) {
      driver.receive(all.dropFirst(start).prefix(pieceSize))
    }
    let output = driver.takeOutput()
    #expect(output.string.contains("\r\n\r\n8jKS'y:G*Co,Wxa-"))
    #expect(Array(output.suffix(2)) == [0xFF, 0x00])
    var events: [WebSocketDriver.Event] = []
    while let event = driver.nextEvent() { events.append(event) }
    #expect(describe(events) == ["open", "text 2 Hi", "close 1005 "])
    #expect(driver.version == .hixie76 && driver.isOver)
    #expect(throws: StreamError.closed) { try driver.send("late") }
  }

  @Test("what is wrong is told to both: an event for the caller, a status or a code for the peer")
  func failures() throws {
    let refusing = WebSocketDriver.server()
    refusing.receive("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(refusing.takeOutput().string.hasPrefix("HTTP/1.1 426 Upgrade Required\r\n") && refusing.isOver)
    guard case .failed(let error)? = refusing.nextEvent() else { return #expect(Bool(false), "no failure") }
    #expect((error as? RequestRejection)?.status == 426)

    let malformed = WebSocketDriver.server()
    malformed.receive("GET / HTTP/1.1\n")
    #expect(malformed.takeOutput().string.hasPrefix("HTTP/1.1 400 ") && malformed.isOver)

    for (frame, code) in [
      (Bytes([0x81, 0x00]), UInt16(1002)), (frame(0x83, ""), 1002), (frame(0x81, [0xFF]), 1007),
      (frame(0x82, Bytes([UInt8](repeating: 1, count: 101))), 1009),
    ] {
      var options = WebSocketHandshakeOptions()
      options.connection.maxMessageSize = 100
      let driver = WebSocketDriver.server(options: options)
      driver.receive(SimulatedWire.request)
      _ = driver.takeOutput()
      driver.receive(frame)
      #expect(Array(driver.takeOutput()) == [0x88, 2, UInt8(code >> 8), UInt8(truncatingIfNeeded: code)])
      #expect(driver.isOver)
      driver.receive(frame)
      #expect(driver.takeOutput().isEmpty)
    }

    let client = try WebSocketDriver.client("ws://test/")
    client.receive("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 403 Forbidden\r\n\r\n")
    guard case .failed(let error)? = client.nextEvent() else { return #expect(Bool(false), "no failure") }
    #expect("\(error)".contains("403") && client.isOver)
    let flooded = try WebSocketDriver.client("ws://test/")
    flooded.receive(Bytes(String(repeating: "HTTP/1.1 100 C\r\n\r\n", count: 100_000)))
    #expect(flooded.isOver)
    #expect(throws: URLError.self) { _ = try WebSocketDriver.client("http://test/") }
  }

  @Test("a connection that ends without a Close")
  func lost() throws {
    var pair = Pair(try .client("ws://test/"), .server())
    pair.run()
    pair.server.receiveEnd()
    guard case .failed(let error)? = pair.server.nextEvent() else { return #expect(Bool(false), "no failure") }
    #expect("\(error)".contains("1006") && pair.server.isOver)
  }

  @Test("the README's loop over a bare TCP stream, with the real client")
  func bareStream() async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let serving = Task {
      guard let socket = try await listener.read() else { return }
      let driver = WebSocketDriver.server()
      while let bytes = try await socket.read() {
        driver.receive(bytes)
        while let event = driver.nextEvent() {
          if case .message(let message) = event { try driver.send(message) }
        }
        try await socket.write(driver.takeOutput())
        if driver.isOver { break }
      }
      try await socket.close()
    }
    let ws = try await WebSocket.connect("ws://127.0.0.1:\(listener.port)")
    for size in [0, 125, 126, 65_535, 65_536, 1_000_000] {
      let message = Message.binary(Bytes([UInt8](repeating: 9, count: size)))
      try await ws.send(message)
      #expect(try await ws.read() == message)
    }
    #expect(try await ws.ping() > .zero)
    try await ws.close(.normal)
    try await serving.value
    listener.cancel(nil)
  }
}
