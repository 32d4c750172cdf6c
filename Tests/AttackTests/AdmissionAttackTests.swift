import Sluice
import Testing

@Suite("Attacks 32, 34: who may connect", .timeLimit(.minutes(2)))
struct AdmissionAttackTests {
  private func status(_ server: InProcessServer, host: String = "example.com", _ fields: String...) async throws -> Int?
  {
    let attacker = try await server.connect()
    defer { attacker.socket.abort(CancellationError()) }
    try await attacker.send(Attacker.handshake(adding: fields).replacing("Host: test", with: "Host: \(host)"))
    return Int(try await attacker.receiveHead().dropFirst(9).prefix(3))
  }

  @Test("attack 32: by default a page of another origin is refused, and what is no page is not")
  func sameOrigin() async throws {
    let server = try await InProcessServer.start()
    for origin in ["http://example.com", "http://EXAMPLE.com", "HTTP://example.com:80", "http://example.com:80"] {
      #expect(try await status(server, "Origin: \(origin)") == 101, "\(origin)")
    }
    #expect(try await status(server) == 101)
    #expect(try await status(server, host: "example.com:8080", "Origin: http://example.com:8080") == 101)
    #expect(try await status(server, host: "[::1]:8080", "Origin: http://[::1]:8080") == 101)
    for origin in [
      "null", "", "http://evil.com", "http://evil-example.com", "http://example.com.evil.com", "http://sub.example.com",
      "http://example.com:8080", "http://example.com:", "http://example.com/", "http://user@example.com", "example.com",
      "//example.com", "http://", "http://127.0.0.1", "http://example.com http://evil.com",
      "http://example.com, http://evil.com",
      "file://", "chrome-extension://abc", "http://example.com:80:80", "http://example.com\\.evil.com", "http://[::1",
      "http://example.com:+80", "http://example.com:000080",
    ] {
      #expect(try await status(server, "Origin: \(origin)") == 403, "\(origin)")
    }
    #expect(try await status(server, "Origin: http://example.com", "Origin: http://example.com") == 403)
    #expect(try await status(server, host: "[::1]:8080", "Origin: http://[::1]:8081") == 403)
    server.stop()
  }

  @Test("attack 32: the origin of the drafts' own field counts as well")
  func draftOrigin() async throws {
    let server = try await InProcessServer.start()
    for version in ["7", "8"] {
      let attacker = try await server.connect()
      try await attacker.send(
        Attacker.handshake(adding: ["Sec-WebSocket-Origin: http://evil.com"]).replacing(
          "Version: 13", with: "Version: \(version)"))
      #expect(try await attacker.receiveHead().hasPrefix("HTTP/1.1 403 "))
      attacker.socket.abort(CancellationError())
    }
    let attacker = try await server.connect()
    try await attacker.send(
      Hixie.handshake76.replacing("Origin: http://example.com", with: "Origin: http://evil.com") + Hixie.body)
    #expect(try await attacker.receiveHead().hasPrefix("HTTP/1.1 403 "))
    attacker.socket.abort(CancellationError())
    server.stop()
  }

  @Test("attack 32: exact origins, patterns, and all of them")
  func policies() async throws {
    var options = WebSocketServerOptions()
    options.origins = .only("https://example.com", "https://*.example.org", "http://localhost:3000")
    let server = try await InProcessServer.start(options)
    for origin in [
      "https://example.com", "https://Example.com:443", "https://a.example.org", "https://a.b.example.org",
      "http://localhost:3000",
    ] {
      #expect(try await status(server, "Origin: \(origin)") == 101, "\(origin)")
    }
    for origin in [
      "http://example.com", "https://sub.example.com", "https://example.org", "https://.example.org",
      "https://evilexample.org",
      "https://a.example.org.evil.com", "https://a.example.org:8443", "http://localhost", "http://localhost:30000",
      "null",
    ] {
      #expect(try await status(server, "Origin: \(origin)") == 403, "\(origin)")
    }
    server.stop()
    var any = WebSocketServerOptions()
    any.origins = .any
    let open = try await InProcessServer.start(any)
    for origin in ["null", "http://evil.com", "x"] { #expect(try await status(open, "Origin: \(origin)") == 101) }
    open.stop()
  }

  @Test("attack 34: one connection too many, and again when one has ended")
  func maxConnections() async throws {
    var options = WebSocketServerOptions()
    options.maxConnections = 3
    let server = try await InProcessServer.start(options)
    for _ in 0..<5 {
      var held: [Attacker] = []
      for _ in 0..<3 {
        let (attacker, head) = try await server.open()
        #expect(head.hasPrefix("HTTP/1.1 101 "))
        held.append(attacker)
      }
      let (refused, head) = try await server.open()
      #expect(head.hasPrefix("HTTP/1.1 503 "))
      refused.socket.abort(CancellationError())
      // One is reset, one closes, one ends without a Close.
      held[0].socket.abort(CancellationError())
      try await held[1].send(frame(0x88))
      _ = await held[1].receiveAll()
      try await held[1].socket.close()
      try await held[2].socket.close()
      _ = await held[2].receiveAll()
      try await untilFree(server, 3)
    }
    server.stop()
  }

  @Test("attack 34: one connection too many from one address, also while it is opening")
  func perAddress() async throws {
    var options = WebSocketServerOptions()
    options.maxConnectionsPerAddress = 2
    options.handshakeTimeout = .seconds(60)
    let server = try await InProcessServer.start(options)
    for _ in 0..<3 {
      // One has its handshake done, the other sends nothing.
      let (first, _) = try await server.open()
      let silent = try await server.connect()
      try await silent.send("GET /")
      try await Task.sleep(for: .milliseconds(50))
      // The field is worth nothing from a peer that is no proxy.
      let (refused, head) = try await server.open("X-Forwarded-For: 10.9.8.7")
      #expect(head.hasPrefix("HTTP/1.1 429 "))
      for attacker in [first, silent, refused] { attacker.socket.abort(CancellationError()) }
      try await untilFree(server, 2)
    }
    server.stop()
  }

  @Test("attack 34: behind a trusted proxy each client counts by itself, an IPv6 one by its /64, a mapped one as IPv4")
  func forwarded() async throws {
    var options = WebSocketServerOptions()
    options.maxConnectionsPerAddress = 1
    options.trustedProxies = [try #require(IPNetwork("127.0.0.0/8")), try #require(IPNetwork("10.0.0.0/8"))]
    let server = try await InProcessServer.start(options)
    for (first, same, other) in [
      ("1.2.3.4", "1.2.3.4", "1.2.3.5"), ("1.2.3.6", "::ffff:1.2.3.6", "1.2.3.7"),
      ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1"),
      // What the client wrote itself stands in front of what the proxies added.
      ("6.6.6.6, 1.2.3.8", "7.7.7.7, 1.2.3.8", "6.6.6.6, 1.2.3.9"),
      ("1.2.3.10, 10.0.0.1", "1.2.3.10", "1.2.3.11, 10.0.0.1"),
    ] {
      let (one, head) = try await server.open("X-Forwarded-For: \(first)")
      #expect(head.hasPrefix("HTTP/1.1 101 "), "\(first)")
      let (two, refusal) = try await server.open("X-Forwarded-For: \(same)")
      #expect(refusal.hasPrefix("HTTP/1.1 429 "), "\(same)")
      let (three, answer) = try await server.open("X-Forwarded-For: \(other)")
      #expect(answer.hasPrefix("HTTP/1.1 101 "), "\(other)")
      for attacker in [one, two, three] { attacker.socket.abort(CancellationError()) }
    }
    server.stop()
  }

  /// Waits until the slots of connections that have ended are free.
  private func untilFree(_ server: InProcessServer, _ count: Int) async throws {
    for _ in 0..<200 {
      var held: [Attacker] = []
      var areFree = true
      for _ in 0..<count {
        let (attacker, head) = try await server.open()
        areFree = areFree && head.hasPrefix("HTTP/1.1 101 ")
        held.append(attacker)
      }
      for attacker in held { attacker.socket.abort(CancellationError()) }
      try await Task.sleep(for: .milliseconds(10))
      if areFree { return }
    }
    Issue.record("the slots were not freed")
  }
}
