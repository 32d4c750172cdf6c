import Sluice
import SluiceIO
import SluiceTestSupport
import Testing

@Suite("WebSockets in TLS", .timeLimit(.minutes(1)))
struct SecureTests {
  private func serving(
    _ change: (inout WebSocketServerOptions) -> Void = { _ in },
    _ body: (WebSocketServer, Certificates) async throws -> Void
  ) async throws {
    let certificates = try await Certificates.load()
    var options = WebSocketServerOptions()
    options.tls = try certificates.server()
    change(&options)
    let server = try await WebSocketServer.listen("wss://127.0.0.1:0/chat", options: options)
    let running = Task { try await server.run { ws in try await ws.pipe(ws) } }
    try await body(server, certificates)
    running.cancel()
    await #expect(throws: CancellationError.self) { try await running.value }
  }

  private func options(_ certificates: Certificates) throws -> WebSocketClientOptions {
    var options = WebSocketClientOptions()
    options.tls = try certificates.client()
    return options
  }

  @Test("an echo of every size")
  func echo() async throws {
    try await serving { server, certificates in
      let ws = try await WebSocket.connect(server.url, options: options(certificates))
      #expect(ws.url == server.url)
      for size in [0, 1, 125, 126, 16384, 65536, 3_000_000] {
        let bytes = Bytes((0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) })
        async let sent: Void = ws.send(bytes)
        #expect(try await ws.read() == .binary(bytes))
        try await sent
      }
      #expect(try await ws.ping() > .zero)
      try await ws.close(.normal, "done")
      #expect(try await ws.read() == nil)
    }
  }

  @Test("a server that is not to be trusted is not talked to")
  func untrusted() async throws {
    try await serving { server, _ in
      await #expect(throws: TLSError.self) { try await WebSocket.connect(server.url) }
      // A client without TLS is told nothing.
      await #expect(throws: (any Error).self) { try await WebSocket.connect("ws://127.0.0.1:\(server.port)/chat") }
    }
  }

  @Test("certificates are read anew while connections go on")
  func reload() async throws {
    let certificates = try await Certificates.load()
    let context = try certificates.server()
    try await serving {
      $0.tls = context
    } _: { server, certificates in
      let ws = try await WebSocket.connect(server.url, options: options(certificates))
      try context.reload(TLSServerOptions(certificates.identity("untrusted")))
      await #expect(throws: TLSError.self) { try await WebSocket.connect(server.url, options: options(certificates)) }
      try await ws.send("still here")
      #expect(try await ws.read() == "still here")
      try context.reload(TLSServerOptions(certificates.identity("good")))
      try await WebSocket.connect(server.url, options: options(certificates)).close(.normal)
      try await ws.close(.normal)
    }
  }

  @Test("a scheme and its certificates belong together")
  func schemes() async throws {
    #expect(try await refusal("wss://127.0.0.1:0", WebSocketServerOptions())?.contains("needs certificates") == true)
    let certificates = try await Certificates.load()
    var options = WebSocketServerOptions()
    options.tls = try certificates.server()
    #expect(try await refusal("ws://127.0.0.1:0", options)?.contains("does not use certificates") == true)
  }

  private func refusal(_ url: String, _ options: WebSocketServerOptions) async throws -> String? {
    do {
      try await WebSocketServer.listen(url, options: options).stop()
      return nil
    } catch let error as TLSError {
      return error.description
    }
  }

  @Test("attack 38: redirects are followed if asked for, never from wss: to ws:, without secrets to another origin")
  func redirects() async throws {
    let certificates = try await Certificates.load()
    try await serving { secure, _ in
      let seen = try await Redirecting.listen()
      defer { seen.stop() }
      var options = try options(certificates)
      options.headers = ["Authorization": "Bearer secret", "Cookie": "a=b", "X-Other": "kept"]
      let url = "ws://127.0.0.1:\(seen.port)/"
      // Not asked for.
      await seen.answer(["/chat"])
      await #expect(throws: WebSocketConnectError.self) { try await WebSocket.connect(url, options: options) }
      // To another origin: secrets stay behind.
      options.maxRedirects = 3
      await seen.answer(["http://localhost:\(seen.port)/again", secure.url])
      try await WebSocket.connect(url, options: options).close(.normal)
      let requests = await seen.requests.suffix(2)
      #expect(requests.first?.contains("Bearer secret") == true)
      #expect(requests.last?.contains("secret") == false && requests.last?.contains("a=b") == false)
      #expect(requests.last?.contains("X-Other: kept") == true)
      // Round and round.
      await seen.answer(["/1", "/2", "/3", "/4", "/5"])
      await #expect(throws: WebSocketConnectError.self) { try await WebSocket.connect(url, options: options) }
      for wrong in ["ws://user:password@127.0.0.1/", "ftp://127.0.0.1/", "http://a b/", ""] {
        await seen.answer([wrong])
        await #expect(throws: WebSocketConnectError.self, "\(wrong)") {
          try await WebSocket.connect(url, options: options)
        }
      }
    }
  }

  @Test("attack 38: a redirect from wss: to ws: is refused")
  func downgrade() async throws {
    let certificates = try await Certificates.load()
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let context = try certificates.server()
    let serving = Task {
      let stream = try await context.accept(over: #require(try await listener.read()))
      _ = try await stream.read()
      try await stream.write("HTTP/1.1 301 Moved\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
    }
    var options = try options(certificates)
    options.maxRedirects = 1
    let final = options
    await #expect(throws: WebSocketConnectError.redirect("it leads from wss: to ws:")) {
      try await WebSocket.connect("wss://127.0.0.1:\(listener.port)/", options: final)
    }
    try await serving.value
    listener.cancel(nil)
  }
}

/// A server that redirects each request to the next of its places.
private actor Redirecting {
  nonisolated let port: Int
  private let listener: SocketListener
  private var places: [String] = []
  private(set) var requests: [String] = []

  static func listen() async throws -> Redirecting {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let redirecting = Redirecting(listener)
    Task { await redirecting.serve() }
    return redirecting
  }

  private init(_ listener: SocketListener) {
    self.listener = listener
    port = listener.port
  }

  func answer(_ places: [String]) { self.places = places }

  nonisolated func stop() { listener.cancel(nil) }

  private func serve() async {
    while let connection = try? await listener.read() {
      var head = ""
      while !head.hasSuffix("\r\n\r\n"), let chunk = try? await connection.read() { head += chunk.string }
      requests.append(head)
      let place = places.isEmpty ? "/nowhere" : places.removeFirst()
      try? await connection.write(
        Bytes("HTTP/1.1 302 Found\r\nLocation: \(place)\r\nContent-Length: 0\r\n\r\n"))
      try? await connection.close()
    }
  }
}
