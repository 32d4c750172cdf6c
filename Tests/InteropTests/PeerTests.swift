import Sluice
import Testing

@Suite("Real peers", .timeLimit(.minutes(5)))
struct PeerTests {
  private var chat: WebSocketServerOptions {
    var options = WebSocketServerOptions()
    options.protocols = ["chat.v2", "chat.v1"]
    return options
  }

  @Test("their client, our echo with pipe", arguments: Peer.allCases)
  func pipe(_ peer: Peer) async throws {
    try await serving(chat) { ws in
      try await ws.pipe(ws)
    } _: { url in
      let result = try await peer.connect(url)
      #expect(result == "ok protocol=chat.v2 close=1000")
    }
  }

  @Test("their client, our echo with for try await", arguments: Peer.allCases)
  func loop(_ peer: Peer) async throws {
    try await serving(chat) { ws in
      for try await message in ws { try await ws.send(message) }
    } _: { url in
      let result = try await peer.connect(url)
      #expect(result == "ok protocol=chat.v2 close=1000")
    }
  }

  @Test("our client, their echo", arguments: Peer.allCases)
  func client(_ peer: Peer) async throws {
    try await peer.serving { url in
      let ws = try await WebSocket.connect(url, protocols: ["chat.v1", "chat.v2"])
      #expect(ws.protocol == "chat.v2")
      for size in [0, 1, 125, 126, 127, 65535, 65536, 1_000_003] {
        let bytes = Bytes((0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) })
        try await ws.send(bytes)
        #expect(try await ws.read() == .binary(bytes))
      }
      for text in ["", "grüße 🎈", String(repeating: "é", count: 70_000)] {
        try await ws.send(text)
        #expect(try await ws.read() == Message(text))
      }
      let parts: [Bytes] = ["one ", "two ", "three"]
      for (index, part) in parts.enumerated() {
        try await ws.parts.write(MessagePart(kind: .text, bytes: part, isFinal: index == parts.count - 1))
      }
      #expect(try await ws.read() == "one two three")
      #expect(try await ws.ping() > .zero)
      async let sent: Void = { for number in 0..<1000 { try await ws.send("message \(number)") } }()
      for number in 0..<1000 { #expect(try await ws.read()?.text == "message \(number)") }
      try await sent
      try await ws.close(.normal, "done")
      #expect(try await ws.read() == nil)
    }
  }

  @Test("their close code and our request headers arrive", arguments: Peer.allCases)
  func closeAndHeaders(_ peer: Peer) async throws {
    try await peer.serving { url in
      let closed = try await WebSocket.connect(url + "/close/4001", protocols: ["chat.v1"])
      // A code of the application's own is an end, and no failure.
      while try await closed.read() != nil {}
      #expect(closed.closeStatus?.code.rawValue == 4001)
      #expect(closed.closeStatus?.reason == "bye")
      var options = WebSocketClientOptions()
      options.headers = ["X-Test": "seven"]
      let ws = try await WebSocket.connect(url + "/headers", protocols: ["chat.v1"], options: options)
      #expect(try await ws.read() == "seven")
      try await ws.close(.normal)
    }
  }

  @Test("curl sees the upgrade, and the refusal without one")
  func curl() async throws {
    try await serving { ws in
      try await ws.send("hello curl")
      try await ws.close(.normal, "bye")
    } _: { url in
      let http = "http" + url.dropFirst(2)
      let upgrade = try await ChildProcess.spawn([
        "curl", "-sS", "-i", "-N", "--max-time", "10", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H",
        "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", http,
      ])
      let head = try #require(try await upgrade.read()).string
      #expect(head.hasPrefix("HTTP/1.1 101 Switching Protocols\r\n"))
      #expect(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"))
      upgrade.abort(StreamError.aborted)
      let plain = try await ChildProcess.spawn(["curl", "-sS", "-i", "--max-time", "10", http])
      let answer: Bytes = try await plain.collect(limit: 10_000)
      #expect(answer.string.hasPrefix("HTTP/1.1 426 Upgrade Required\r\n"))
    }
  }

  @Test("a server that is stopped closes with 1001")
  func shutdown() async throws {
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    let running = Task { try await server.run { ws in try await ws.pipe(ws) } }
    let ws = try await WebSocket.connect(server.url)
    try await ws.send("x")
    #expect(try await ws.read() == "x")
    running.cancel()
    #expect(try await ws.read() == nil)
    #expect(ws.closeStatus?.code == .goingAway)
    await #expect(throws: CancellationError.self) { try await running.value }
  }

  @Test("a handler that throws closes with 1011, and another path is 404")
  func handlerErrors() async throws {
    struct Failure: Error {}
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0/chat?ignored")
    _ = server
    try await serving { _ in
      throw Failure()
    } _: { url in
      let ws = try await WebSocket.connect(url)
      do {
        _ = try await ws.read()
        Issue.record("the connection ended without an error")
      } catch WebSocketError.closed(let code, _) {
        #expect(code == .internalError)
      }
    }
    server.stop()
  }
}
