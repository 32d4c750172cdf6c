import Sluice
import SluiceTestSupport
import Testing

@testable import SluiceServer

@Suite("Clients of an HTTP server that take their time", .timeLimit(.minutes(1)))
struct SlowClientTests {
  /// Compared by its hash, which takes no time also where nothing is optimised.
  private static let large: Bytes = {
    let pattern = (0..<10_007).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 7) }
    var builder = BytesBuilder()
    for _ in 0..<400 { builder.append(contentsOf: pattern) }
    return builder.take()
  }()
  private static let routes: [HTTPRoute] = [
    .respond("/large") { _ in .bytes(large, type: "application/octet-stream") },
    .respond("/ignored", methods: [.post]) { _ in .bytes(large, type: "application/octet-stream") },
    .respond("/health") { _ in .text("ok") },
  ]

  /// Runs `body` on the loop's thread, where other tests that are busy don't hold it up.
  private func onLoop(
    _ options: HTTPServerOptions = HTTPServerOptions(), routes: [HTTPRoute] = SlowClientTests.routes,
    _ body: @escaping @Sendable (HTTPServer) async throws -> Void
  ) async throws {
    try await withTaskExecutorPreference(UVLoop.shared) { try await withServer(options, routes: routes, body) }
  }

  @Test(
    "a response on a connection that ends arrives whole, however long the client waits before it reads",
    arguments: [
      "GET /large HTTP/1.0\r\n\r\n", "GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
      "POST /ignored HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    ])
  func lateReader(request: String) async throws {
    try await onLoop { server in
      let socket = try await TCP.connect("127.0.0.1", port: server.port)
      try await socket.write(Bytes(request))
      try await Task.sleep(for: .seconds(3))
      let answer: Bytes = try await socket.collect(limit: 1 << 24)
      #expect(answer.suffix(Self.large.count).hashValue == Self.large.hashValue)
      socket.abort(StreamError.aborted)
    }
  }

  @Test("the same in TLS, and at shutdown")
  func lateReaderInTLS() async throws {
    let certificates = try await Certificates.load()
    var options = HTTPServerOptions()
    options.tls = try certificates.server()
    let server = try await HTTPServer.listen("https://127.0.0.1:0", options: options)
    let running = Task { try await server.run(routes: Self.routes) }
    let stream = try await certificates.client().connect(
      over: TCP.connect("127.0.0.1", port: server.port), to: "127.0.0.1")
    try await stream.write("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    let first = try #require(try await stream.read())
    running.cancel()
    try await Task.sleep(for: .seconds(3))
    let rest: Bytes = try await stream.collect(limit: 1 << 24)
    #expect(first.followed(by: rest).suffix(Self.large.count).hashValue == Self.large.hashValue)
    stream.abort(StreamError.aborted)
    _ = try? await running.value
  }

  @Test("a client that takes a little all the time is not cut, however long the whole takes")
  func steadyReader() async throws {
    var options = HTTPServerOptions()
    options.stallTimeout = .seconds(1)
    let body = Bytes([UInt8](repeating: 7, count: 40_000_000))
    let route = HTTPRoute.respond("/large") { _ in .bytes(body, type: "application/octet-stream") }
    try await onLoop(options, routes: [route]) { server in
      let socket = try await TCP.connect("127.0.0.1", port: server.port)
      try await socket.write("GET /large HTTP/1.0\r\n\r\n")
      var count = 0
      while let chunk = try await socket.read() {
        count += chunk.count
        try await Task.sleep(for: .milliseconds(10))
      }
      #expect(count > body.count)
      socket.abort(StreamError.aborted)
    }
  }

  @Test("a client that never takes the last bytes holds its place for a while only", arguments: [100_000, 40_000_000])
  func neverTaken(size: Int) async throws {
    var options = HTTPServerOptions()
    options.maxConnections = 1
    options.stallTimeout = .milliseconds(300)
    let body = Bytes([UInt8](repeating: 7, count: size))
    let routes = [HTTPRoute.respond("/large") { _ in .bytes(body, type: "application/octet-stream") }] + Self.routes
    try await onLoop(options, routes: routes) { server in
      let socket = try await TCP.connect("127.0.0.1", port: server.port)
      try await socket.write("GET /large HTTP/1.0\r\n\r\n")
      let start = ContinuousClock.now
      while try await !server.exchange(["GET /health HTTP/1.0\r\n\r\n"]).hasSuffix("ok") {
        try await Task.sleep(for: .milliseconds(50))
        try #require(ContinuousClock.now - start < .seconds(10))
      }
      socket.abort(StreamError.aborted)
    }
  }

  @Test("the time for the first head counts from accept, and a head that has begun is answered with 408")
  func firstHead() async throws {
    var options = HTTPServerOptions()
    options.requestTimeout = .seconds(3)
    let clock = ContinuousClock()
    try await onLoop(options) { server in
      let begin = clock.now
      let socket = try await TCP.connect("127.0.0.1", port: server.port)
      try await Task.sleep(for: .milliseconds(2500))
      try await socket.write("GET /health HTTP/1.1\r\n")
      let answer = try await answers(on: socket)
      #expect(answer.hasPrefix("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"))
      #expect(clock.now - begin >= .milliseconds(2990) && clock.now - begin < .milliseconds(5200))
    }
  }

  @Test("in TLS the handshake is part of that time")
  func firstHeadInTLS() async throws {
    let certificates = try await Certificates.load()
    var options = HTTPServerOptions()
    options.tls = try certificates.server()
    options.requestTimeout = .seconds(3)
    let clock = ContinuousClock()
    try await onLoop(options) { server in
      let begin = clock.now
      let socket = try await TCP.connect("127.0.0.1", port: server.port)
      try await Task.sleep(for: .milliseconds(2500))
      let stream = try await certificates.client().connect(over: socket, to: "127.0.0.1")
      try await stream.write("GET /health HTTP/1.1\r\n")
      #expect(try await answers(on: stream).hasPrefix("HTTP/1.1 408 "))
      #expect(clock.now - begin < .milliseconds(5200))
    }
  }

  @Test("the time for a later head counts from its first byte; what never began is ended without a word")
  func laterHead() async throws {
    var options = HTTPServerOptions()
    options.requestTimeout = .seconds(1)
    try await onLoop(options) { server in
      let health: Bytes = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
      let socket = try await TCP.connect("127.0.0.1", port: server.port)
      try await socket.write(health)
      #expect(try await socket.read()?.string.hasSuffix("ok") == true)
      // Between two requests counts `keepAliveTimeout` instead.
      try await Task.sleep(for: .milliseconds(1300))
      try await socket.write(health.prefix(10))
      try await Task.sleep(for: .milliseconds(100))
      try await socket.write(health.dropFirst(10))
      #expect(try await socket.read()?.string.hasSuffix("ok") == true)
      try await socket.write(health.prefix(10))
      #expect(try await answers(on: socket).hasPrefix("HTTP/1.1 408 "))
      #expect(try await server.exchange([]) == "")
    }
  }

  @Test(
    "the answer to HEAD is a head alone, also where it is refused",
    arguments: ["/nowhere", "/ignored", "/health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip"])
  func refusedHead(target: String) async throws {
    try await onLoop { server in
      let request = target.contains(" ") ? "HEAD \(target)\r\n\r\n" : "HEAD \(target) HTTP/1.1\r\nHost: a\r\n\r\n"
      let answer = try await server.exchange([Bytes(request)])
      #expect(answer.contains("\r\nContent-Length: ") && answer.hasSuffix("\r\n\r\n"), "\(answer)")
    }
  }
}
