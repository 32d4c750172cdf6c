import Sluice
import Testing

@Suite("ATTACKS 34: connections in all and per address", .timeLimit(.minutes(1)))
struct ConnectionLimitTests {
  private func withServer(
    _ change: (inout WebSocketServerOptions) -> Void, _ body: (String) async throws -> Void
  ) async throws {
    var options = WebSocketServerOptions()
    change(&options)
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0", options: options)
    let running = Task { try await server.run { ws in try await ws.pipe(ws) } }
    defer { running.cancel() }
    try await body(server.url)
  }

  private func connect(_ url: String, forwardedFor: String? = nil) async throws -> WebSocket {
    var options = WebSocketClientOptions()
    if let forwardedFor { options.headers = ["X-Forwarded-For": forwardedFor] }
    return try await WebSocket.connect(url, options: options)
  }

  private func expectRefusal(_ status: Int, _ url: String, forwardedFor: String? = nil) async throws {
    do {
      _ = try await connect(url, forwardedFor: forwardedFor)
      Issue.record("one connection too many was taken")
    } catch WebSocketConnectError.handshake(.refused(let actual, _, _)) {
      #expect(actual == status)
    }
  }

  /// The server learns of an end a moment after its client.
  private func connectEventually(_ url: String) async throws -> WebSocket {
    for _ in 0..<200 {
      if let socket = try? await connect(url) { return socket }
      try await Task.sleep(for: .milliseconds(10))
    }
    return try await connect(url)
  }

  @Test("one more than there may be is answered with 503, and a place that is free is taken again")
  func all() async throws {
    try await withServer {
      $0.maxConnections = 3
    } _: { url in
      var sockets: [WebSocket] = []
      for _ in 0..<3 { sockets.append(try await connect(url)) }
      try await expectRefusal(503, url)
      try await sockets.removeLast().close(.normal)
      sockets.append(try await connectEventually(url))
      try await expectRefusal(503, url)
      sockets.removeLast().abort(StreamError.aborted)
      sockets.append(try await connectEventually(url))
      for socket in sockets { try await socket.close(.normal) }
    }
  }

  @Test("one more from an address is answered with 429; what a client says of its address does not count")
  func perAddress() async throws {
    try await withServer {
      $0.maxConnectionsPerAddress = 2
    } _: { url in
      let sockets = [try await connect(url), try await connect(url)]
      try await expectRefusal(429, url)
      try await expectRefusal(429, url, forwardedFor: "192.0.2.1")
      for socket in sockets { try await socket.close(.normal) }
      try await connectEventually(url).close(.normal)
    }
  }

  @Test("a trusted proxy says where a connection comes from: the last address that is not a proxy's")
  func proxies() async throws {
    try await withServer {
      $0.maxConnectionsPerAddress = 1
      $0.trustedProxies = ["127.0.0.0/8", "10.0.0.0/8"].compactMap(IPNetwork.init)
    } _: { url in
      var sockets = [try await connect(url, forwardedFor: "192.0.2.1")]
      sockets.append(try await connect(url, forwardedFor: "192.0.2.1, 192.0.2.2, 10.1.1.1"))
      try await expectRefusal(429, url, forwardedFor: "6.6.6.6, 192.0.2.2")
      try await expectRefusal(429, url, forwardedFor: "::ffff:192.0.2.1")
      sockets.append(try await connect(url, forwardedFor: "2001:db8:1:1::1"))
      try await expectRefusal(429, url, forwardedFor: "2001:db8:1:1:ffff::7")
      sockets.append(try await connect(url, forwardedFor: "2001:db8:1:2::1"))
      for socket in sockets { try await socket.close(.normal) }
    }
  }

  @Test("a load balancer says with the PROXY protocol where a connection comes from, if it is trusted to")
  func loadBalancers() async throws {
    let line = "PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n"
    for isTrusted in [true, false] {
      try await withServer {
        if isTrusted { $0.proxyProtocolFrom = ["127.0.0.0/8"].compactMap(IPNetwork.init) }
        $0.onRequest = { _ in ["X-Seen": "yes"] }
      } _: { url in
        let port = Int(url.split(separator: ":").last?.split(separator: "/").first ?? "") ?? 0
        let socket = try await TCP.connect("127.0.0.1", port: port)
        if isTrusted {
          for byte in line.utf8 { try await socket.write([byte]) }
          let ws = try await WebSocket.connect("ws://test/", over: socket)
          try await ws.send("hello")
          #expect(try await ws.read() == "hello")
          try await ws.close(.normal)
          // One without the header is cut.
          await #expect(throws: (any Error).self) { try await WebSocket.connect(url) }
        } else {
          try await socket.write(Bytes(line + "\r\n"))
          var answer = ""
          while let chunk = try? await socket.read() { answer += chunk.string }
          #expect(answer.hasPrefix("HTTP/1.1 400"))
          socket.abort(StreamError.aborted)
        }
      }
    }
  }

  @Test("a page of another origin is refused, and the application may choose the subprotocol")
  func originAndProtocol() async throws {
    try await withServer {
      $0.protocols = ["a", "b"]
      $0.chooseProtocol = { _, offered in offered.last }
    } _: { url in
      var options = WebSocketClientOptions()
      options.headers = ["Origin": "https://evil.example"]
      do {
        _ = try await WebSocket.connect(url, options: options)
        Issue.record("another origin was accepted")
      } catch WebSocketConnectError.handshake(.refused(let status, _, _)) {
        #expect(status == 403)
      }
      let socket = try await WebSocket.connect(url, protocols: ["b", "c"])
      #expect(socket.protocol == "c")
      try await socket.close(.normal)
    }
  }
}
