import Sluice
import SluiceTestSupport
import Testing

/// The packages in `Examples/`, which `scripts/test` builds in `.build/examples` before the tests.
@Suite("Inside SwiftNIO and Hummingbird", .timeLimit(.minutes(3)))
struct EmbeddingTests {
  enum Example: String, CaseIterable {
    case nioEcho = "nio-echo"
    case hummingbirdChat = "hummingbird-chat"
    case meteredService = "metered-service"

    /// Where its WebSockets are.
    var path: String { self == .hummingbirdChat ? "/room" : "/" }
  }

  private func running(
    _ example: Example, _ arguments: [String] = [], _ body: (Int, ChildProcess) async throws -> Void
  ) async throws {
    let process = try await ChildProcess.spawn(
      ["timeout", "--foreground", "120", Repository.root + "/.build/examples/debug/" + example.rawValue, "0"]
        + arguments,
      environment: Repository.environment.merging(["SWIFT_BACKTRACE": "enable=no", "LOG_LEVEL": "error"]) { $1 })
    let line = try await process.lines.read() ?? ""
    let result: Result<Void, any Error>
    do {
      let port = try #require(Int(line.split(separator: " ").last ?? ""), "\(line)")
      result = .success(try await body(port, process))
    } catch { result = .failure(error) }
    // Had it crashed, there were nobody to be told so.
    process.send(.interrupt)
    let end = try await process.waitForExit()
    if case .signalled(_, let signal)? = end { #expect(signal == 2) }
    try result.get()
  }

  @Test("clients of four languages talk with the echo on a NIO channel", arguments: Peer.allCases)
  func peers(_ peer: Peer) async throws {
    try await running(.nioEcho) { port, _ in
      let result = try await peer.connect("ws://127.0.0.1:\(port)")
      #expect(result == "ok protocol=chat.v2 close=1000")
    }
  }

  @Test(
    "what is no WebSocket goes to the server's own routes, what is a wrong one is refused",
    arguments: [Example.nioEcho, .hummingbirdChat])
  func routes(_ example: Example) async throws {
    try await running(example) { port, _ in
      let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
      for (path, fields, answer) in [
        ("/", "", "HTTP/1.1 200 OK"), (example.path, upgrade + "Sec-WebSocket-Version: 99\r\n", "HTTP/1.1 426 "),
        (example.path, upgrade + "Sec-WebSocket-Version: 13\r\nOrigin: http://evil\r\n", "HTTP/1.1 403 "),
        ("/", "", "HTTP/1.1 200 OK"),
      ] {
        let socket = try await TCP.connect("127.0.0.1", port: port)
        try await socket.write(Bytes("GET \(path) HTTP/1.1\r\nHost: 127.0.0.1\r\n\(fields)\r\n"))
        #expect(try await socket.read()?.string.hasPrefix(answer) == true)
        socket.abort(StreamError.aborted)
      }
    }
  }

  @Test("a slow reader holds the echo, and everything arrives; frames behind the request are not lost")
  func backpressure() async throws {
    try await running(.nioEcho) { port, _ in
      let ws = try await WebSocket.connect("ws://127.0.0.1:\(port)")
      let (count, chunk) = (400, Bytes([UInt8](repeating: 0x73, count: 100_000)))
      async let sent: Int = {
        for _ in 0..<count { try await ws.send(chunk) }
        return count
      }()
      try await Task.sleep(for: .milliseconds(300))
      // 40 MB don't fit into the buffers of both ends and the kernel.
      #expect(ws.bufferedAmount > 0)
      for _ in 0..<count { #expect(try await ws.read()?.bytes.count == chunk.count) }
      #expect(try await sent == count)
      try await ws.close(.normal)
      let socket = try await TCP.connect("127.0.0.1", port: port)
      let request =
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
      try await socket.write(
        Bytes(Array(request.utf8) + [0x81, 0x82, 0, 0, 0, 0, 0x48, 0x69, 0x88, 0x80, 0, 0, 0, 0]))
      let answer = Array(try await socket.collect(limit: 10_000) as Bytes)
      #expect(answer.suffix(6) == [0x81, 2, 0x48, 0x69, 0x88, 0])
    }
  }

  @Test("event streams in a NIO pipeline: our client, which comes back where it was, and curl")
  func events() async throws {
    try await running(.nioEcho) { port, _ in
      var options = EventSourceClientOptions()
      options.lastEventID = "40"
      let feed = try await EventSource.connect("http://127.0.0.1:\(port)/feed", options: options)
      for number in 41...43 { #expect(try await feed.read() == ServerSentEvent("\(number)", id: "\(number)")) }
      feed.cancel(nil)
      let curl = try await ChildProcess.spawn([
        "curl", "-sN", "--max-time", "20", "-H", "Accept: text/event-stream", "http://127.0.0.1:\(port)/feed",
      ])
      let lines = curl.lines
      for line in ["retry: 5000", "", "id: 1", "data: 1", "", "id: 2", "data: 2"] {
        #expect(try await lines.read() == line)
      }
      curl.cancel(nil)
    }
  }

  @Test("in NIOSSL's TLS: messages of every size, a close, and events")
  func tls() async throws {
    let certificates = try await Certificates.load()
    let files = ["good.pem", "good.key"].map { certificates.file($0).string }
    try await running(.nioEcho, files) { port, _ in
      var options = WebSocketClientOptions()
      options.tls = try certificates.client()
      let ws = try await WebSocket.connect("wss://127.0.0.1:\(port)/", protocols: ["chat.v1"], options: options)
      #expect(ws.protocol == "chat.v1")
      let sizes = [0, 1, 125, 126, 20_000, 70_000, 3_000_000]
      async let sent: Void = {
        for size in sizes { try await ws.send(Bytes([UInt8](repeating: UInt8(size & 0xFF), count: size))) }
      }()
      for size in sizes {
        let message = try await ws.read()
        #expect(message?.bytes.count == size && message?.bytes.allSatisfy { $0 == UInt8(size & 0xFF) } == true)
      }
      try await sent
      try await ws.close(CloseCode(rawValue: 4000), "done")
      #expect(ws.closeStatus?.code == CloseCode(rawValue: 4000))
      var feedOptions = EventSourceClientOptions()
      feedOptions.tls = options.tls
      let feed = try await EventSource.connect("https://127.0.0.1:\(port)/feed", options: feedOptions)
      #expect(try await feed.read()?.data == "1")
      #expect(try await feed.read()?.data == "2")
      feed.cancel(nil)
    }
  }

  @Test("a service counts, and its graceful shutdown closes with 1001")
  func service() async throws {
    try await running(.meteredService) { port, server in
      let ws = try await WebSocket.connect("ws://127.0.0.1:\(port)")
      for message in ["one", "three"] as [Message] {
        try await ws.send(message)
        #expect(try await ws.read() == message)
      }
      await #expect(throws: WebSocketConnectError.self) {
        var options = WebSocketClientOptions()
        options.headers = ["Origin": "http://evil"]
        _ = try await WebSocket.connect("ws://127.0.0.1:\(port)", options: options)
      }
      server.send(.terminate)
      #expect(try await ws.read() == nil)
      #expect(ws.closeStatus?.code == .goingAway)
      let counts = try await server.lines.collect(limit: 100).joined(separator: "\n")
      #expect(
        counts == """
          sluice.websocket.bytes direction=in 8
          sluice.websocket.bytes direction=out 8
          sluice.websocket.closes code=1001 1
          sluice.websocket.connections 0.0
          sluice.websocket.handshake_failures status=403 1
          sluice.websocket.high_watermark 0
          sluice.websocket.messages direction=in 2
          sluice.websocket.messages direction=out 2
          sluice.websocket.missed 0
          sluice.websocket.opened 1
          """)
    }
  }

  @Test("a room in Hummingbird: all hear, and a shutdown closes with 1001")
  func room() async throws {
    try await running(.hummingbirdChat) { port, server in
      let first = try await WebSocket.connect("ws://127.0.0.1:\(port)/room")
      let second = try await WebSocket.connect("ws://127.0.0.1:\(port)/room")
      // Until both are members.
      try await second.send("hello")
      #expect(try await second.read() == "hello")
      var options = EventSourceClientOptions()
      options.reconnects = false
      let feed = try await EventSource.connect("http://127.0.0.1:\(port)/feed", options: options)
      // Until that is one too: its head is there before.
      let asking = Task {
        while !Task.isCancelled {
          try await second.send("hello again")
          try await Task.sleep(for: .milliseconds(50))
        }
      }
      #expect(try await feed.read()?.data == "hello again")
      asking.cancel()
      _ = await asking.result
      server.send(.interrupt)
      while let event = try await feed.read() { #expect(event.data == "hello again") }
      var heard: Set<String> = []
      while let message = try await first.read() { heard.insert(message.text) }
      #expect(heard.subtracting(["hello"]) == ["hello again"])
      #expect(first.closeStatus?.code == .goingAway)
      // It would be waited for: it has not read the Close.
      second.abort(StreamError.aborted)
    }
  }
}
