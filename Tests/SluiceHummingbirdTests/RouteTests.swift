#if Hummingbird
  import Hummingbird
  import Sluice
  import SluiceHummingbird
  import Synchronization
  import Testing

  @Suite("WebSockets and event streams as routes of Hummingbird", .timeLimit(.minutes(1)))
  struct RouteTests {
    private typealias Context = BasicRequestContext

    @Test(
      "a route with a parameter: messages of every size pass, and the handler knows the request and what it was accepted with"
    )
    func route() async throws {
      let router = Router()
      router.get("/") { _, _ in "page" }
      router.webSocket("/chat/{room}") { _, context in
        WebSocketAcceptance(headers: ["X-Room": try context.parameters.require("room")], subprotocol: "b", value: 7)
      } _: { ws, request, context in
        #expect(ws.loop.isCurrent && request.uri.path == ws.path && context.parameters.get("room") == "a%20b")
        try await ws.send(
          "\(ws.parameters["room"] ?? ""), \(ws.query ?? ""), \(ws.value(as: Int.self) ?? 0), \(ws.protocol)")
        try await ws.pipe(ws)
      }
      try await HummingbirdServer.run(router) { server in
        let ws = try await WebSocket.connect("\(server.url)/chat/a%20b?c=1", protocols: ["a", "b"])
        #expect(try await ws.read()?.text == "a b, c=1, 7, b")
        #expect(ws.headers["X-Room"] == "a%20b" && ws.protocol == "b")
        for size in [0, 1, 125, 126, 65_536, 3_000_000] {
          let bytes = Bytes((0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) })
          async let sent: Void = ws.send(bytes)
          #expect(try await ws.read() == .binary(bytes))
          try await sent
        }
        try await ws.close(CloseCode(rawValue: 4000), "done")
        #expect(ws.closeStatus?.code == CloseCode(rawValue: 4000))
        #expect(try await server.answer(to: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", until: "page").hasSuffix("page"))
      }
    }

    private struct Credentials: RouterMiddleware {
      func handle(
        _ request: Request, context: Context, next: (Request, Context) async throws -> Response
      ) async throws -> Response {
        guard request.headers[.authorization] == "Bearer 7" else { throw HTTPError(.unauthorized) }
        return try await next(request, context)
      }
    }

    @Test(
      "the router, the middleware, the options and the route refuse, each with its status, and the connection closes")
    func refusals() async throws {
      let router = Router()
      let echo: @Sendable (WebSocket, Request, Context) async throws -> Void = { ws, _, _ in try await ws.pipe(ws) }
      var options = WebSocketHandshakeOptions()
      options.origins = .only("https://example.com")
      router.webSocket("/open", options: options, echo)
      options.onRequest = { _ in throw RequestRejection(status: 409, reason: "not now") }
      router.webSocket("/options", options: options, echo)
      router.webSocket("/route") { _, _ in
        throw RequestRejection(status: 403, reason: "not for you")
      } _: { ws, _, _ in
        try await ws.pipe(ws)
      }
      router.get("/failing") { request, _ -> Response in
        struct Failure: Error {}
        _ = try await request.webSocket { try await $0.pipe($0) }
        throw Failure()
      }
      router.group("/private").add(middleware: Credentials()).webSocket("/", echo)
      try await HummingbirdServer.run(router) { server in
        for (path, fields, status) in [
          ("/nowhere", "", 404), ("/private", "", 401), ("/route", "", 403), ("/options", "", 409),
          ("/open", "Origin: https://evil.example\r\n", 403), ("/failing", "", 500),
          ("/open", "Sec-WebSocket-Extensions: \u{1}\r\n", 400),
        ] {
          // Until the server ends the connection.
          let answer = try await server.answer(to: HummingbirdServer.upgrade(path, fields))
          #expect(answer.hasPrefix("HTTP/1.1 \(status) "), "\(path): \(answer)")
        }
        let plain = try await server.answer(to: "GET /open HTTP/1.1\r\nHost: a\r\n\r\n", until: "\r\n\r\n")
        #expect(plain.hasPrefix("HTTP/1.1 4"), "\(plain)")
        let old = try await server.answer(
          to: HummingbirdServer.upgrade("/open").replacing("HTTP/1.1", with: "HTTP/1.0"))
        #expect(old.hasPrefix("HTTP/1.1 505 "), "\(old)")
        do {
          _ = try await WebSocket.connect("\(server.url)/route")
          Issue.record("it was accepted")
        } catch WebSocketConnectError.handshake(.refused(let status, _, let body)) {
          #expect(status == 403 && body.string == "not for you\n")
        }
        var client = WebSocketClientOptions()
        client.headers = ["Authorization": "Bearer 7"]
        let ws = try await WebSocket.connect("\(server.url)/private", options: client)
        try await ws.send("in")
        #expect(try await ws.read()?.text == "in")
        try await ws.close()
      }
    }

    @Test("an upgrade behind other requests on the same connection, with a frame behind it that did not wait")
    func laterRequest() async throws {
      let router = Router()
      router.get("/") { _, _ in "page" }
      router.webSocket("/echo") { ws, _, _ in try await ws.pipe(ws) }
      try await HummingbirdServer.run(router) { server in
        let page = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        let socket = try await TCP.connect("127.0.0.1", port: server.port)
        try await socket.write(Bytes(page))
        var answer = ""
        while !answer.hasSuffix("page"), let chunk = try await socket.read() { answer += chunk.string }
        let frames: [UInt8] = [0x81, 0x82, 0, 0, 0, 0, 0x48, 0x69, 0x88, 0x80, 0, 0, 0, 0]
        try await socket.write(Bytes(Array((page + HummingbirdServer.upgrade("/echo")).utf8) + frames))
        let rest = Array(try await socket.collect(limit: 10_000) as Bytes)
        #expect(rest.suffix(6) == [0x81, 2, 0x48, 0x69, 0x88, 0])
        let head = String(decoding: rest.dropLast(6), as: UTF8.self)
        #expect(head.hasPrefix("HTTP/1.1 200 ") && head.contains("page") && head.contains("HTTP/1.1 101 "))
      }
    }

    private struct Door: RouterMiddleware {
      func handle(
        _ request: Request, context: Context, next: (Request, Context) async throws -> Response
      ) async throws -> Response {
        guard request.uri.path == "/door" else { return try await next(request, context) }
        return try await request.webSocket(accepting: WebSocketAcceptance(value: "middleware")) { ws in
          try await ws.send(ws.value(as: String.self) ?? "")
        }
      }
    }

    private struct Closed: RouterMiddleware {
      func handle(
        _ request: Request, context: Context, next: (Request, Context) async throws -> Response
      ) async throws -> Response {
        _ = try await next(request, context)
        return Response(status: .serviceUnavailable)
      }
    }

    @Test("middleware answers with a WebSocket by itself, and what it makes of a route's counts")
    func middleware() async throws {
      let router = Router()
      router.add(middleware: Door())
      let isServed = Mutex(false)
      router.group("/closed").add(middleware: Closed()).webSocket("/") { _, _, _ in isServed.withLock { $0 = true } }
      try await HummingbirdServer.run(router) { server in
        let ws = try await WebSocket.connect("\(server.url)/door")
        #expect(try await ws.read()?.text == "middleware")
        #expect(try await ws.read() == nil)
        #expect(ws.closeStatus?.code == .normal)
        let answer = try await server.answer(to: HummingbirdServer.upgrade("/closed"))
        #expect(answer.hasPrefix("HTTP/1.1 503 "), "\(answer)")
        #expect(!isServed.withLock { $0 })
      }
    }

    @Test("a handler that reads nothing is cancelled when its client is gone")
    func gone() async throws {
      let router = Router()
      let (ends, ended) = AsyncStream.makeStream(of: Bool.self)
      router.webSocket("/") { ws, _, _ in
        do { try await Task.sleep(for: .seconds(50)) } catch { ended.yield(error is CancellationError) }
        ended.finish()
      }
      try await HummingbirdServer.run(router) { server in
        let ws = try await WebSocket.connect(server.url)
        ws.abort()
        for await isCancelled in ends { #expect(isCancelled) }
      }
    }

    @Test("event streams: what was missed is known, a slow client holds its producer, one that leaves ends it")
    func events() async throws {
      let router = Router()
      let sent = Mutex(0)
      let isEnded = Mutex(false)
      var quick = EventSourceServerOptions()
      quick.retry = .milliseconds(10)
      router.events("/feed/{start}", options: quick) { events, request, _ in
        let first = events.lastEventID.flatMap { Int($0) }.map { $0 + 1 } ?? Int(events.parameters["start"] ?? "") ?? 0
        for number in first..<first + 2 { try await events.send("\(number)", id: "\(number)") }
      }
      router.events("/flood") { events, _, _ in
        defer { isEnded.withLock { $0 = true } }
        while true {
          try await events.send(String(repeating: "x", count: 100_000))
          sent.withLock { $0 += 1 }
        }
      }
      router.events("/quiet") { events, _, _ in try await events.waitUntilClosed() }
      try await HummingbirdServer.run(router) { server in
        let client = try await EventSource.connect("http://127.0.0.1:\(server.port)/feed/7")
        for number in 7..<12 { #expect(try await client.read()?.data == "\(number)") }
        client.cancel(nil)

        let refused = try await server.answer(
          to: "GET /feed/1 HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n", until: "\r\n\r\n")
        #expect(refused.hasPrefix("HTTP/1.1 406 "))

        let socket = try await TCP.connect("127.0.0.1", port: server.port)
        try await socket.write("GET /flood HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
        _ = try await socket.read()
        var last = -1
        while sent.withLock({ $0 }) != last {
          last = sent.withLock { $0 }
          try await Task.sleep(for: .milliseconds(100))
        }
        #expect(last < 300)
        socket.abort(StreamError.aborted)
        for _ in 0..<500 where !isEnded.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(10)) }
        #expect(isEnded.withLock { $0 })

        // One that ends its own half only.
        let half = try await TCP.connect("127.0.0.1", port: server.port)
        try await half.write("GET /quiet HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
        _ = try await half.read()
        try await half.close()
        #expect((try await half.collect(limit: 1000) as Bytes).string.hasSuffix("0\r\n\r\n"))
      }
    }

    @Test("a graceful shutdown closes WebSockets with 1001 and ends event streams, behind what was sent")
    func shutdown() async throws {
      let router = Router()
      router.webSocket("/ws") { ws, _, _ in try await ws.pipe(ws) }
      router.events("/feed") { events, _, _ in
        try await events.send("hello")
        try await events.waitUntilClosed()
      }
      try await HummingbirdServer.run(router) { server in
        let ws = try await WebSocket.connect("\(server.url)/ws")
        try await ws.send("hello")
        #expect(try await ws.read()?.text == "hello")
        var options = EventSourceClientOptions()
        options.reconnects = false
        let feed = try await EventSource.connect("http://127.0.0.1:\(server.port)/feed", options: options)
        #expect(try await feed.read()?.data == "hello")
        await server.shutDown()
        #expect(try await ws.read() == nil)
        #expect(ws.closeStatus?.code == .goingAway)
        #expect(try await feed.read() == nil)
      }
    }
  }
#endif
