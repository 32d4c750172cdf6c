import Sluice
import SluiceTestSupport
import Testing

@Suite("A WebSocket connection", .timeLimit(.minutes(2)))
struct ConnectionTests {
  @Test("what the handshake settled can be asked for at both ends")
  func properties() async throws {
    var server = WebSocketHandshakeOptions()
    server.protocols = ["chat.v2", "chat.v1"]
    server.onRequest = { request in ["X-Room": request.path ?? ""] }
    var client = WebSocketRequestOptions()
    client.headers = ["X-Test": "7"]
    try await SimulatedConnection.run(server: server, client: client, protocols: ["chat.v1", "chat.v2"]) { ends, _ in
      #expect(ends.client.protocol == "chat.v2" && ends.server.protocol == "chat.v2")
      #expect(ends.client.version == "hybi-13")
      #expect(ends.client.url == "ws://test/chat?room=1" && ends.server.url == "ws://test/chat?room=1")
      #expect(ends.client.statusCode == 101 && ends.server.statusCode == nil)
      #expect(ends.client.headers["x-room"] == "/chat?room=1")
      #expect(ends.server.request?.headerFields[.init("X-Test")!] == "7")
      #expect(ends.client.readyState == .open)
      #expect(ends.client.bufferedAmount == 0)
      try await close(ends)
      #expect(ends.client.readyState == .closed)
    }
  }

  enum Stack: CaseIterable { case socket, tls, memory }

  @Test(
    "what is buffered can be asked for on every thread, while the peer does not read and until it has",
    arguments: Stack.allCases)
  func bufferedAmount(_ stack: Stack) async throws {
    try await withBothEnds(stack) { client, server in
      #expect(client.bufferedAmount == 0)
      let chunk = Bytes([UInt8](repeating: 7, count: 100_000))
      let count = 400
      let sending = Task { for _ in 0..<count { try await client.send(chunk) } }
      // It comes to a halt, as the peer reads ahead no more than it may.
      var last = -1
      while last != client.bufferedAmount || last <= 0 {
        last = client.bufferedAmount
        try await Task.sleep(for: .milliseconds(50))
      }
      #expect(last < 4 << 20)
      #expect(await client.onLoop { $0.bufferedAmount } > 0)
      for _ in 0..<count { #expect(try await server.read()?.bytes.count == chunk.count) }
      try await sending.value
      try await until { client.bufferedAmount == 0 }
      client.abort(CancellationError())
      try await until { client.readyState == .closed }
      #expect(client.bufferedAmount == 0)
    }
  }

  private func until(_ isTrue: () -> Bool) async throws {
    for _ in 0..<500 where !isTrue() { try await Task.sleep(for: .milliseconds(10)) }
    #expect(isTrue())
  }

  /// On a loop that is not the test's.
  private func withBothEnds(_ stack: Stack, _ body: (WebSocket, WebSocket) async throws -> Void) async throws {
    if stack == .memory {
      let (client, server) = try await WebSocket.pair(on: UVLoop.shared)
      return try await body(client, server)
    }
    var options = WebSocketServerOptions()
    var connecting = WebSocketClientOptions()
    if stack == .tls {
      let certificates = try await Certificates.load()
      options.tls = try certificates.server()
      connecting.tls = try certificates.client()
    }
    let server = try await WebSocketServer.listen("\(stack == .tls ? "wss" : "ws")://127.0.0.1:0", options: options)
    let (accepted, known) = AsyncStream.makeStream(of: WebSocket.self)
    let running = Task {
      try await server.run { ws in
        known.yield(ws)
        await ws.waitUntilClosed()
      }
    }
    let client = try await WebSocket.connect(server.url, options: connecting)
    for await ws in accepted {
      try await body(client, ws)
      break
    }
    running.cancel()
    _ = await running.result
  }

  private func close(_ ends: SimulatedConnection) async throws {
    async let end = ends.server.read()
    try await ends.client.close(.normal, "done")
    #expect(try await end == nil)
  }

  @Test("an echo of every size, however the bytes are cut", arguments: [1, 2, 7, 125, .max])
  func echo(pieceSize: Int) async throws {
    try await SimulatedConnection.run(pieceSize: pieceSize) { ends, _ in
      async let served: Void = ends.server.pipe(ends.server)
      let sizes = pieceSize == 1 ? [0, 1, 125, 126, 127, 3000] : [0, 1, 125, 126, 127, 65535, 65536, 300_000]
      for size in sizes {
        let bytes = Bytes((0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) })
        try await ends.client.send(bytes)
        #expect(try await ends.client.read() == .binary(bytes))
      }
      try await ends.client.send("grüße 🎈")
      #expect(try await ends.client.read() == "grüße 🎈")
      try await ends.client.close(.normal, "done")
      try await served
      #expect(ends.server.closeStatus?.code == .normal)
      #expect(ends.server.closeStatus?.reason == "done")
    }
  }

  @Test("an echo with await loses nothing that was sent before the Close")
  func closeBehindData() async throws {
    try await SimulatedConnection.run(pieceSize: 11, delay: .milliseconds(2)) { ends, _ in
      async let served: Void = {
        for try await message in ends.server { try await ends.server.send(message) }
      }()
      for number in 0..<500 { try await ends.client.send("message \(number)") }
      async let closed: Void = ends.client.close(.normal)
      for number in 0..<500 { #expect(try await ends.client.read()?.text == "message \(number)") }
      #expect(try await ends.client.read() == nil)
      try await closed
      try await served
    }
  }

  @Test("a ping's round trip is measured, also while nobody reads and messages come before the pong")
  func ping() async throws {
    try await SimulatedConnection.run(delay: .milliseconds(20)) { ends, _ in
      async let served = ends.server.read()
      try await ends.server.send("before the pong")
      #expect(try await ends.client.ping() == .milliseconds(40))
      #expect(try await ends.client.read() == "before the pong")
      await #expect(throws: WebSocketError.self) {
        try await ends.client.ping(Bytes([UInt8](repeating: 0, count: 126)))
      }
      try await ends.client.close(.normal)
      _ = try await served
      await #expect(throws: WebSocketError.self) { try await ends.client.ping() }
    }
  }

  @Test("a pong for an old ping does not answer a newer one (ATTACKS 13)")
  func pongForOldPing() async throws {
    try await SimulatedWire.run { near, far, loop in
      let server = try await SimulatedWire.open(near, far)
      let first = Task(executorPreference: loop) { try await server.ping("old") }
      #expect(try await near.read() == [0x89, 3, 0x6F, 0x6C, 0x64])
      first.cancel()
      await #expect(throws: CancellationError.self) { try await first.value }
      async let second = server.ping("new")
      #expect(try await near.read() == [0x89, 3, 0x6E, 0x65, 0x77])
      try await near.write(frame(0x8A, "old"))
      try await near.write(frame(0x81, "still waiting"))
      #expect(try await server.read() == "still waiting")
      try await near.write(frame(0x8A, "new"))
      _ = try await second
    }
  }

  @Test("pings are answered with their payload; of a flood, at least the last (ATTACKS 12)")
  func pingFlood() async throws {
    try await SimulatedWire.run { near, far, _ in
      let server = try await SimulatedWire.open(near, far)
      async let end = server.read()
      near.stall(false)
      far.stall(true)
      for number in 0..<20_000 { try await near.write(frame(0x89, Bytes("\(number)"))) }
      #expect(far.unreadByPeer < 200 << 10)
      far.stall(false)
      try await near.write(frame(0x88, [0x03, 0xE8]))
      #expect(try await end == nil)
      let answers = try await near.collect(limit: 1 << 20) as Bytes
      #expect(answers.suffix(11).starts(with: [0x8A, 5]) || answers.string.contains("19999"))
    }
  }

  @Test("a peer that does not answer our Close is cut off at the time limit (ATTACKS 14)")
  func closeTimeout() async throws {
    try await SimulatedWire.run { near, far, loop in
      let server = try await SimulatedWire.open(near, far)
      let before = loop.now
      await #expect(throws: WebSocketError.self) { try await server.close(.normal) }
      #expect(loop.now - before == .seconds(10))
      await #expect(throws: (any Error).self) { while try await near.read() != nil {} }
    }
  }

  @Test("a slow handshake is dropped at the time limit, measured from accept (ATTACKS 33)")
  func slowHandshake() async throws {
    try await SimulatedWire.run { near, far, loop in
      let accepted = Task(executorPreference: loop) { try await WebSocket.accept(over: far) }
      let writing = Task(executorPreference: loop) {
        for byte in SimulatedWire.request {
          try await near.write([byte])
          try await sleep(.seconds(1), on: loop)
        }
      }
      await #expect(throws: WebSocketConnectError.timeout(.seconds(10))) { try await accepted.value }
      #expect(loop.now == .seconds(10))
      await #expect(throws: (any Error).self) { try await writing.value }
    }
  }

  @Test("frames in the same packet as the handshake are read (ATTACKS 30)")
  func earlyFrames() async throws {
    try await SimulatedWire.run { near, far, _ in
      async let accepted = WebSocket.accept(over: far)
      var builder = BytesBuilder()
      builder.append(SimulatedWire.request)
      builder.append(frame(0x81, "early"))
      try await near.write(builder.take())
      #expect(try await accepted.read() == "early")
    }
  }

  @Test("frames in packets of their own that are there when the handshake is read are not lost (ATTACKS 30)")
  func waitingFrames() async throws {
    try await SimulatedWire.run { near, far, loop in
      try await near.write(SimulatedWire.request)
      try await near.write(frame(0x81, "one"))
      try await near.write(frame(0x81, "two"))
      try await sleep(.seconds(1), on: loop)
      let ws = try await WebSocket.accept(over: far)
      #expect(try await ws.read() == "one")
      #expect(try await ws.read() == "two")
    }
  }

  @Test(
    "what breaks the protocol throws here and closes there with the right code (ATTACKS 3-8, 10)",
    arguments: [
      ([0x81, 0x05, 0x48, 0x65, 0x6C, 0x6C, 0x6F] as Bytes, CloseCode.protocolError),
      (frame(0xC1, "rsv"), .protocolError),
      (frame(0x83, "opcode"), .protocolError),
      (frame(0x80, "continuation"), .protocolError),
      (frame(0x09, "fragmented ping"), .protocolError),
      (frame(0x88, [0x03]), .protocolError),
      (frame(0x88, [0x03, 0xED]), .protocolError),
      (frame(0x81, [0xC3, 0x28]), .invalidPayload),
      (frame(0x82, Bytes([UInt8](repeating: 0, count: 1001))), .messageTooBig),
    ])
  func violations(bytes: Bytes, code: CloseCode) async throws {
    var options = WebSocketHandshakeOptions()
    options.connection.maxMessageSize = 1000
    let final = options
    try await SimulatedWire.run { near, far, _ in
      let server = try await SimulatedWire.open(near, far, options: final)
      try await near.write(frame(0x81, "before"))
      try await near.write(bytes)
      try await near.close()
      #expect(try await server.read() == "before")
      await #expect(throws: WebSocketError.self) { try await server.read() }
      await #expect(throws: WebSocketError.self) { try await server.read() }
      let answer = try await near.collect(limit: 1000) as Bytes
      #expect(answer == [0x88, 2, UInt8(code.rawValue >> 8), UInt8(code.rawValue & 0xFF)])
    }
  }

  @Test("a connection that ends without a Close throws 1006")
  func lost() async throws {
    try await SimulatedWire.run { near, far, _ in
      let server = try await SimulatedWire.open(near, far)
      try await near.close()
      await #expect(throws: WebSocketError.self) { try await server.read() }
    }
  }

  @Test("a message streams through parts on both sides, with the memory of the watermarks")
  func parts() async throws {
    try await SimulatedConnection.run { ends, _ in
      let total = 8 << 20
      async let sent: Void = {
        let part = Bytes([UInt8](repeating: 9, count: 64 << 10))
        for number in 1...total / part.count {
          try await ends.client.parts.write(
            MessagePart(kind: .binary, bytes: part, isFinal: number == total / part.count))
        }
        try await ends.client.close(.normal)
      }()
      var count = 0
      var finals = 0
      while let part = try await ends.server.parts.read() {
        count += part.bytes.count
        finals += part.isFinal ? 1 : 0
      }
      #expect(count == total && finals == 1)
      try await sent
    }
  }

  @Test("a reader that stops stops the sender")
  func backpressure() async throws {
    try await SimulatedConnection.run { ends, loop in
      let sending = Task(executorPreference: loop) {
        var count = 0
        while count < 10_000 {
          try await ends.client.send(Bytes([UInt8](repeating: 1, count: 1000)))
          count += 1
        }
        return count
      }
      try await sleep(.seconds(60), on: loop)
      sending.cancel()
      await #expect(throws: CancellationError.self) { try await sending.value }
      #expect(try await ends.server.read()?.bytes.count == 1000)
    }
  }

  @Test("codes and reasons that must not be sent are refused")
  func closeArguments() async throws {
    try await SimulatedConnection.run { ends, _ in
      for code: UInt16 in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
        await #expect(throws: WebSocketError.self) { try await ends.client.close(CloseCode(rawValue: code)) }
      }
      await #expect(throws: WebSocketError.self) {
        try await ends.client.close(.normal, String(repeating: "x", count: 124))
      }
      async let end: Message? = { () async throws in
        do { return try await ends.server.read() } catch WebSocketError.closed(let code, let reason) {
          #expect(code.rawValue == 4001 && reason == "mine")
          return nil
        }
      }()
      try await ends.client.close(CloseCode(rawValue: 4001), "mine")
      _ = try await end
    }
  }

  @Test(
    "the server's answers to what is no handshake: status and words, and then the end",
    arguments: [
      ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 426 Upgrade Required"),
      ("POST / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
      ("GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 505 HTTP Version Not Supported"),
      ("GET / HTTP/1.1\n\n", "HTTP/1.1 400 Bad Request"),
      ("LONG", "HTTP/1.1 431 Request Header Fields Too Large"),
    ])
  func rejections(request: String, status: String) async throws {
    try await SimulatedWire.run { near, far, loop in
      let accepted = Task(executorPreference: loop) { try await WebSocket.accept(over: far) }
      let long = "GET / HTTP/1.1\r\nA: \(String(repeating: "x", count: 20_000))\r\n\r\n"
      try await near.write(Bytes(request == "LONG" ? long : request))
      try await near.close()
      let answer = (try await near.collect(limit: 10_000) as Bytes).string
      #expect(answer.hasPrefix(status + "\r\n"))
      #expect(answer.contains("\r\nConnection: close"))
      await #expect(throws: RequestRejection.self) { try await accepted.value }
    }
  }

  @Test("a client throws the server's status, and passes over interim responses")
  func refused() async throws {
    try await SimulatedWire.run { near, far, _ in
      async let client = WebSocket.connect("ws://test/", over: near)
      _ = try await far.read()
      try await far.write("HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 403 Forbidden\r\nX-Why: no\r\n\r\n")
      do {
        _ = try await client
        Issue.record("the client connected")
      } catch WebSocketConnectError.handshake(.refused(let status, let headers, _)) {
        #expect(status == 403 && headers[.init("X-Why")!] == "no")
      }
    }
  }

  @Test("whoever reads a WebSocket that its own side aborts is told why, and no loss of the connection")
  func abortReason() async throws {
    struct Reason: Error {}
    try await SimulatedConnection.run { connection, loop in
      let reading = Task(executorPreference: loop) { try await connection.client.read() }
      try await loop.sleep(for: .seconds(1))
      connection.client.abort(Reason())
      await #expect(throws: Reason.self) { try await reading.value }
      await #expect(throws: Reason.self) { try await connection.client.send("x") }
    }
  }
}

func sleep(_ time: Duration, on loop: SimulatedLoop) async throws {
  await withCheckedContinuation { continuation in _ = loop.schedule(after: time) { continuation.resume() } }
  try Task.checkCancellation()
}
