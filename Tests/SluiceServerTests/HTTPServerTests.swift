import Sluice
import SluiceStreams
import SluiceTestSupport
import Synchronization
import Testing

@testable import SluiceServer

@Suite("The HTTP server", .timeLimit(.minutes(1)))
struct HTTPServerTests {
  private static let routes: [HTTPRoute] = [
    .webSocket("/both") { ws in try await ws.pipe(ws) },
    .page("/both", "<p>page</p>"),
    .events("/feed") { events in try await events.send("hello", id: "1") },
    .respond("/health") { _ in .text("ok") },
    .respond("/echo", methods: [.post, .put]) { request in
      .bytes(try await request.body.collect(limit: 1 << 20), type: "application/octet-stream")
    },
    .respond("/query") { .text($0.query ?? "none") },
    .respond("/ignored", methods: [.post]) { _ in .text("ignored") },
    .respond("/broken") { _ in throw StreamError.limitExceeded(what: "secret", limit: 1, actual: 2) },
    .respond("/refused") { _ in throw RequestRejection(status: 410, reason: "gone for good") },
    .respond("/refusedOddly") { _ in throw RequestRejection(status: 200, reason: "secret") },
    .respond("/refusedTwice") { _ in
      throw RequestRejection(status: 400, reason: "secret", fields: [.contentLength: "1000"])
    },
    .respond("slashless/*") { .text($0.path) },
    .respond("/badstatus") { _ in ServerResponse(status: 100) },
    .respond("/badfield") { _ in ServerResponse(fields: [.connection: "keep-alive"]) },
    .respond("/stream") { _ in .stream(SequenceStream(["one", "", "two"] as [Bytes]), type: "text/plain") },
    .respond("/short") { _ in .stream(SequenceStream(["one"] as [Bytes]), type: "text/plain", length: 10) },
    .respond("/long") { _ in .stream(SequenceStream(["one", "two"] as [Bytes]), type: "text/plain", length: 4) },
    .respond("/nothing") { _ in ServerResponse(status: 204) },
    .respond("/below/*") { .text($0.path) },
    .respond("/from") { .text($0.remoteAddress.map { "\($0)" } ?? "nobody") },
  ]

  private func serving(
    _ options: HTTPServerOptions = HTTPServerOptions(), routes: [HTTPRoute] = HTTPServerTests.routes,
    _ body: (HTTPServer) async throws -> Void
  ) async throws {
    try await withServer(options, routes: routes, body)
  }

  /// What comes back until the server ends the connection, without the dates.
  private func exchange(_ pieces: [Bytes], with server: HTTPServer) async throws -> String {
    try await server.exchange(pieces)
  }

  private func answer(_ request: String, with server: HTTPServer) async throws -> String {
    try await exchange([Bytes(request)], with: server)
  }

  private static let conversation =
    "GET /health HTTP/1.1\r\nHost: a\r\n\r\n" + "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    + "PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n"
    + "HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n" + "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"
    + "GET http://a/query?x=1 HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"

  private static let conversationAnswers =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\nok"
    + "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 5\r\n\r\nhello"
    + "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 5\r\n\r\nabcde"
    + "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\n"
    + "HTTP/1.1 204 No Content\r\n\r\n"
    + "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n\r\nx=1"

  @Test("requests on one connection are answered in turn, however their bytes come")
  func keepAlive() async throws {
    let bytes = Bytes(Self.conversation)
    try await serving { server in
      #expect(try await exchange([bytes], with: server) == Self.conversationAnswers)
      for split in stride(from: 1, to: bytes.count, by: 7) {
        let answers = try await exchange([bytes.prefix(split), bytes.dropFirst(split)], with: server)
        #expect(answers == Self.conversationAnswers, "split at \(split)")
      }
    }
  }

  @Test("byte by byte, on a socket whose every byte is a read of its own")
  func byteByByte() async throws {
    try await serving { server in
      let socket = try await TCP.connect("127.0.0.1", port: server.port)
      for byte in Self.conversation.utf8 {
        try await socket.write(Bytes([byte]))
        await Task.yield()
      }
      #expect(try await answers(on: socket) == Self.conversationAnswers)
    }
  }

  @Test(
    "what is refused, and how",
    arguments: [
      ("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", "404 Not Found"),
      ("POST /health HTTP/1.1\r\nHost: a\r\n\r\n", "405 Method Not Allowed\r\nConnection: close"),
      ("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n", "405 "),
      ("GET /health HTTP/1.1\r\n\r\n", "400 Bad Request"),
      ("GET /health HTTP/1.1\nHost: a\n\n", "400 "),
      ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "400 "),
      ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "400 "),
      ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", "413 Content Too Large"),
      ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501 Not Implemented"),
      ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "400 "),
      ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", "400 "),
      ("POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 "),
      ("BREW /health HTTP/1.1\r\nHost: a\r\n\r\n", "501 Not Implemented\r\nConnection: close"),
      ("get /health HTTP/1.1\r\nHost: a\r\n\r\n", "501 "), ("TRACE /health HTTP/1.1\r\nHost: a\r\n\r\n", "501 "),
      ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", "501 "), ("DELETE /health HTTP/1.1\r\nHost: a\r\n\r\n", "405 "),
      ("GET /\(String(repeating: "x", count: 20_000)) HTTP/1.1\r\nHost: a\r\n\r\n", "414 URI Too Long"),
      ("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "400 "), ("GET /health#x HTTP/1.1\r\nHost: a\r\n\r\n", "400 "),
      ("GET /health HTTP/0.9\r\nHost: a\r\n\r\n", "505 "), ("GET /health http/1.1\r\nHost: a\r\n\r\n", "400 "),
      ("GET /health HTTP/2.0\r\nHost: a\r\n\r\n", "505 "),
      ("GET /health HTTP/1.1\r\nHost: a\r\nX: \(String(repeating: "x", count: 20_000))\r\n\r\n", "431 "),
      ("GET /both HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "426 "),
      ("POST /feed HTTP/1.1\r\nHost: a\r\n\r\n", "405 "),
      ("GET /broken HTTP/1.0\r\n\r\n", "500 Internal Server Error"),
      ("GET /badstatus HTTP/1.0\r\n\r\n", "500 "), ("GET /badfield HTTP/1.0\r\n\r\n", "500 "),
      ("GET /refused HTTP/1.0\r\n\r\n", "410 Gone"), ("GET /refusedOddly HTTP/1.0\r\n\r\n", "500 "),
      ("GET /refusedTwice HTTP/1.0\r\n\r\n", "500 "), ("GET / HTTP/1.1\r\nHost: a b/c@d\r\n\r\n", "400 "),
      ("GET http://u:p@a/health HTTP/1.1\r\nHost: a\r\n\r\n", "400 "),
    ])
  func refusals(request: String, status: String) async throws {
    try await serving { server in
      let answer = try await answer(request, with: server)
      #expect(answer.hasPrefix("HTTP/1.1 \(status)"))
      #expect(answer.contains("\r\nConnection: close\r\n") && !answer.contains("secret"))
      if status.hasPrefix("405") { #expect(answer.contains("\r\nAllow: ")) }
    }
  }

  @Test("a route without its first slash has it; an empty line before a request is passed over")
  func slashless() async throws {
    try await serving { server in
      let answer = try await answer(
        "GET /slashless/x HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /health HTTP/1.0\r\n\r\n", with: server)
      #expect(answer.contains("\r\n\r\n/slashless/xHTTP/1.1 200 OK\r\n") && answer.hasSuffix("ok"))
    }
  }

  @Test("a body that grows beyond its limit is refused; one that nobody reads ends the connection")
  func bodies() async throws {
    var options = HTTPServerOptions()
    options.maxBodySize = 10
    try await serving(options) { server in
      let chunk = "8\r\n12345678\r\n"
      let long = try await answer(
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\(chunk)\(chunk)0\r\n\r\n", with: server)
      #expect(long.hasPrefix("HTTP/1.1 413 "))
      let unread = try await answer(
        "POST /ignored HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
        with: server)
      #expect(unread.hasPrefix("HTTP/1.1 200 OK\r\nConnection: close\r\n") && unread.hasSuffix("ignored"))
      let malformed = try await answer(
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", with: server)
      #expect(malformed.hasPrefix("HTTP/1.1 400 "))
    }
  }

  @Test(
    "attack 53: a chunked body that two readers could end in two places gets 400 and the end, and nothing behind it is read"
  )
  func chunkedBodies() async throws {
    try await serving { server in
      for body in [
        "5 \r\nhello\r\n0\r\n\r\n", "5;\r\nhello\r\n0\r\n\r\n", "5;a=\"b\r\nhello\r\n0\r\n\r\n",
        "5;a\u{1}\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nno field\r\n\r\n",
        "5\r\nhello\r\n0\r\n folded: x\r\n\r\n",
        "5\r\nhello\r\n0\r\na: b\n\r\n", "5\r\nhello0\r\n\r\n", "\u{665}\r\nhello\r\n0\r\n\r\n",
        "5;\(String(repeating: "x", count: 20_000))\r\nhello\r\n0\r\n\r\n",
        "0\r\na: \(String(repeating: "x", count: 20_000))\r\n\r\n",
      ] {
        let answer = try await answer(
          "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\(body)GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
          with: server)
        #expect(answer.hasPrefix("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"), "\(body.prefix(30))")
        #expect(answer.split(separator: "HTTP/1.1 ").count == 1)
      }
    }
  }

  @Test("empty lines between requests begin none: the connection waits on as an idle one, and is not told of a timeout")
  func emptyLines() async throws {
    var options = HTTPServerOptions()
    options.requestTimeout = .milliseconds(100)
    options.keepAliveTimeout = .milliseconds(600)
    let request = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    try await serving(options) { server in
      for pieces in [["\r\n\r\n"], ["\r", "\n\r", "\n"], ["\r\n", "\r\n"]] {
        let socket = try await TCP.connect("127.0.0.1", port: server.port)
        try await socket.write(Bytes("\r\n" + request))
        #expect(try await socket.read()?.string.hasSuffix("ok") == true)
        for piece in pieces {
          try await socket.write(Bytes(piece))
          try await Task.sleep(for: .milliseconds(60))
        }
        try await Task.sleep(for: .milliseconds(150))
        try await socket.write(Bytes(request))
        #expect(try await socket.read()?.string.hasSuffix("ok") == true, "\(pieces)")
        try await socket.write("\r\n")
        // Idle until its time is over.
        #expect(try await socket.read() == nil)
        socket.abort(StreamError.aborted)
      }
      #expect(try await answer("\n\(request)", with: server).hasPrefix("HTTP/1.1 400 "))
      #expect(try await answer(String(repeating: "\r\n", count: 20_000), with: server).hasPrefix("HTTP/1.1 431 "))
    }
  }

  @Test("a client that asks first is told to go on when the body is wanted, and not otherwise")
  func expectContinue() async throws {
    try await serving { server in
      let head = " HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
      let socket = try await TCP.connect("127.0.0.1", port: server.port)
      try await socket.write(Bytes("POST /echo" + head))
      #expect(try await socket.read()?.string == "HTTP/1.1 100 Continue\r\n\r\n")
      try await socket.write("hello")
      #expect(try await answers(on: socket).hasSuffix("\r\n\r\nhello"))
      #expect(try await answer("POST /ignored" + head, with: server).hasPrefix("HTTP/1.1 200 "))
    }
  }

  @Test("streams: in chunks, to the end for HTTP/1.0, and never longer or shorter than promised")
  func streams() async throws {
    try await serving { server in
      let chunked = try await answer(
        "GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", with: server)
      #expect(chunked.hasSuffix("Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"))
      #expect(try await answer("GET /stream HTTP/1.0\r\n\r\n", with: server).hasSuffix("text/plain\r\n\r\nonetwo"))
      let long = try await answer("GET /long HTTP/1.0\r\n\r\n", with: server)
      #expect(long.hasSuffix("Content-Length: 4\r\n\r\nonet"))
      let socket = try await TCP.connect("127.0.0.1", port: server.port)
      try await socket.write("GET /short HTTP/1.1\r\nHost: a\r\n\r\n")
      let short = try? await answers(on: socket)
      #expect(short == nil || short?.hasSuffix("\r\n\r\none") == true)
    }
  }

  @Test("a WebSocket, an event stream and a page, on one port and one path")
  func upgrades() async throws {
    try await serving { server in
      let ws = try await WebSocket.connect("ws://127.0.0.1:\(server.port)/both")
      try await ws.send("over the same port")
      #expect(try await ws.read() == "over the same port")
      try await ws.close(.normal)
      let page = try await answer("GET /both HTTP/1.0\r\n\r\n", with: server)
      #expect(page.hasSuffix("Content-Length: 11\r\n\r\n<p>page</p>"))
      let feed = try await EventSource.connect("http://127.0.0.1:\(server.port)/feed")
      #expect(try await feed.read() == ServerSentEvent("hello", id: "1"))
      feed.cancel(nil)
      // The socket behind a request that was answered as usual, with a first message in the same packet.
      let socket = try await TCP.connect("127.0.0.1", port: server.port)
      let requests =
        "GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /both HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
        + "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
      try await socket.write(
        Bytes(Array(requests.utf8) + [0x81, 0x82, 0, 0, 0, 0, 0x48, 0x69, 0x88, 0x80, 0, 0, 0, 0]))
      let all = Array(try await socket.collect(limit: 10_000) as Bytes)
      #expect(all.suffix(6) == [0x81, 2, 0x48, 0x69, 0x88, 0])
    }
  }

  @Test("connections are counted, in all and for the address that a trusted proxy names")
  func limits() async throws {
    var options = HTTPServerOptions()
    options.maxConnections = 2
    options.maxConnectionsPerAddress = 1
    options.trustedProxies = [IPNetwork("127.0.0.1")!]
    try await serving(options) { server in
      let request = { (address: String) in
        Bytes("GET /from HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: \(address)\r\n\r\n")
      }
      let first = try await TCP.connect("127.0.0.1", port: server.port)
      try await first.write(request("192.0.2.1"))
      #expect(try await first.read()?.string.hasSuffix("192.0.2.1") == true)
      #expect(try await exchange([request("192.0.2.1")], with: server).hasPrefix("HTTP/1.1 429 "))
      // The same connection for another client: the first one's place is free again.
      try await first.write(request("192.0.2.2"))
      #expect(try await first.read()?.string.hasSuffix("192.0.2.2") == true)
      let second = try await TCP.connect("127.0.0.1", port: server.port)
      try await second.write(request("192.0.2.1"))
      #expect(try await second.read()?.string.hasPrefix("HTTP/1.1 200 ") == true)
      #expect(try await exchange([], with: server).hasPrefix("HTTP/1.1 503 "))
      first.abort(StreamError.aborted)
      second.abort(StreamError.aborted)
    }
  }

  @Test("whoever drips a head, says nothing, or stops in a body is cut, and no sooner")
  func timeouts() async throws {
    var options = HTTPServerOptions()
    options.requestTimeout = .milliseconds(150)
    options.keepAliveTimeout = .milliseconds(100)
    options.stallTimeout = .milliseconds(100)
    let clock = ContinuousClock()
    try await serving(options) { server in
      for (start, limit) in [
        ("", 100), ("GET /health HT", 150), ("GET /health HTTP/1.1\r\nHost: a\r\n\r\n", 100),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe", 100),
      ] {
        let begin = clock.now
        let socket = try await TCP.connect("127.0.0.1", port: server.port)
        try await socket.write(Bytes(start))
        _ = try? await answers(on: socket)
        #expect(clock.now - begin >= .milliseconds(limit - 5), "\(start)")
      }
    }
  }

  @Test("a client that takes nothing holds the stream, and is cut in time")
  func slowClient() async throws {
    let given = Mutex(0)
    let cancelled = Mutex(false)
    var options = HTTPServerOptions()
    options.stallTimeout = .milliseconds(300)
    let chunk = Bytes([UInt8](repeating: 0x78, count: 64 << 10))
    let endless = HTTPRoute.respond("/endless") { _ in
      .stream(
        Readable(onCancel: { _ in cancelled.withLock { $0 = true } }) {
          given.withLock { $0 += chunk.count }
          return chunk
        }, type: "text/plain")
    }
    try await serving(options, routes: [endless]) { server in
      let socket = try await TCP.connect("127.0.0.1", port: server.port)
      try await socket.write("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
      for _ in 0..<500 where !cancelled.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(10)) }
      #expect(cancelled.withLock { $0 })
      // What the system's buffers and ours take, and nothing beyond.
      #expect(given.withLock { $0 } < 16 << 20)
      socket.abort(StreamError.aborted)
    }
  }

  @Test("at shutdown what is under way is finished, what waits is ended, WebSockets get 1001")
  func shutdown() async throws {
    let (entered, entering) = AsyncStream<Void>.makeStream()
    let slow = HTTPRoute.respond("/slow") { _ in
      entering.yield()
      try await Task.sleep(for: .milliseconds(200))
      return .text("done")
    }
    let server = try await HTTPServer.listen("http://127.0.0.1:0")
    let running = Task { try await server.run(routes: Self.routes + [slow]) }
    let idle = try await TCP.connect("127.0.0.1", port: server.port)
    try await idle.write("GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(try await idle.read()?.string.hasSuffix("ok") == true)
    let ws = try await WebSocket.connect("ws://127.0.0.1:\(server.port)/both")
    async let answered = answer("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", with: server)
    for await _ in entered { break }
    let start = ContinuousClock().now
    running.cancel()
    #expect(try await idle.read() == nil)
    #expect(try await ws.read() == nil)
    #expect(ws.closeStatus?.code == .goingAway)
    let answer = try await answered
    #expect(answer.contains("\r\nConnection: close\r\n") && answer.hasSuffix("done"))
    idle.abort(StreamError.aborted)
    await #expect(throws: CancellationError.self) { try await running.value }
    #expect(ContinuousClock().now - start < .seconds(8))
  }

  @Test("in TLS, on several loops")
  func secure() async throws {
    let certificates = try await Certificates.load()
    var options = HTTPServerOptions()
    options.tls = try certificates.server()
    options.loops = 2
    let client = try certificates.client()
    try await serving(options) { server in
      for _ in 0..<10 {
        let stream = try await client.connect(
          over: TCP.connect("127.0.0.1", port: server.port), to: "127.0.0.1")
        try await stream.write("GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        #expect((try await stream.collect(limit: 10_000) as Bytes).string.hasSuffix("ok"))
        stream.abort(StreamError.aborted)
      }
      await #expect(throws: TLSError.self) { try await HTTPServer.listen("https://127.0.0.1:0") }
    }
  }

  @Test("an observer is told of connections, answers with their bodies' bytes, and refusals")
  func observer() async throws {
    let seen = Seen()
    var options = HTTPServerOptions()
    options.observer = seen
    try await serving(options) { server in
      let requests =
        "GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
        + "GET /stream HTTP/1.1\r\nHost: a\r\n\r\nHEAD /health HTTP/1.1\r\nHost: a\r\n\r\n"
        + "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n"
      _ = try await exchange([Bytes(requests)], with: server)
      _ = try await exchange(["nonsense\r\n\r\n"], with: server)
      for _ in 0..<500 where seen.all.filter({ $0 == "end" }).count < 2 { try await Task.sleep(for: .milliseconds(10)) }
    }
    #expect(
      seen.all == [
        "open", "answer 200 2", "answer 200 6", "answer 200 0", "refuse 404", "end", "open", "refuse 400", "end",
      ])
  }

  private final class Seen: HTTPServerObserver {
    private let lines = Mutex<[String]>([])
    var all: [String] { lines.withLock { $0 } }

    private func add(_ line: String) { lines.withLock { $0.append(line) } }
    func didOpen() { add("open") }
    func didAnswer(status: Int, byteCount: Int) { add("answer \(status) \(byteCount)") }
    func didRefuse(status: Int) { add("refuse \(status)") }
    func didEnd() { add("end") }
  }
}
