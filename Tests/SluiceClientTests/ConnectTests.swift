import HTTPTypes
import SluiceEventSource
import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS
import SluiceWebSocket
import Testing

@testable import SluiceClient

@Suite("The way to an origin", .timeLimit(.minutes(1)))
struct ConnectTests {
  @Test("a Unix socket is reached without the proxy, which is told nothing and tells the socket nothing")
  func unixSocketBesideProxy() async throws {
    let name = "@sluice-test-\(UInt64.random(in: 0 ... .max))"
    let socket = try await UnixSocket.listen(name)
    let proxy = try await TCP.listen("127.0.0.1", port: 0)
    var options = ConnectOptions()
    options.unixSocket = name
    options.proxy = .through(try Proxy("http://ann:secret@127.0.0.1:\(proxy.port)"))
    options.timeout = .seconds(2)
    let stream = try await Connect.open(Origin(host: "localhost", port: 80, isSecure: false), options: options)
    try await stream.write("hello")
    let peer = try #require(try await socket.read())
    #expect(try await peer.read() == "hello")
    for end in [stream as any PolledDuplexStream<Bytes, Bytes>, peer] { end.abort(StreamError.aborted) }
    socket.cancel()
    proxy.cancel()
    #expect(try await proxy.read() == nil)
  }

  @Test("a redirect keeps the URL's credentials at the same origin, and only there")
  func redirectedCredentials() throws {
    let url = try ConnectionURL("ws://ann:secret@example.com/a/b?c")
    func follow(_ location: String) throws -> Redirect {
      let schemes = ["http": "ws", "https": "wss", "ws": "ws", "wss": "wss"]
      return try #require(try Redirect(status: 307, headers: [.location: location], from: url, schemes: schemes))
    }
    for location in ["/x", "x", "?y", "//example.com/z", "http://example.com:80/"] {
      #expect(try follow(location).url.userInfo == url.userInfo, "\(location)")
    }
    for location in ["//example.org/", "wss://example.com/", "ws://example.com:81/"] {
      #expect(try follow(location).url.userInfo == nil, "\(location)")
    }
    #expect(throws: Redirect.NotFollowed.self) { try follow("ws://eve:x@example.com/") }
  }

  @Test("a redirect's Location is one, and is resolved as a reference; the origin's name has no case")
  func locations() throws {
    let url = try ConnectionURL("ws://example.com/a/b?c")
    func follow(_ locations: [String], status: Int = 302) throws -> Redirect? {
      var headers = HTTPFields()
      headers[values: .location] = locations
      return try Redirect(
        status: status, headers: headers, from: url, schemes: ["http": "ws", "ws": "ws", "wss": "wss"])
    }
    #expect(try follow(["/login?next=http://x/"])?.url.description == "ws://example.com/login?next=http://x/")
    #expect(try follow(["?u=ws://x/"])?.url.description == "ws://example.com/a/b?u=ws://x/")
    #expect(try follow(["../../c#d"])?.url.description == "ws://example.com/c")
    #expect(try follow([""])?.url.description == "ws://example.com/a/b?c")
    #expect(try follow(["HTTP://EXAMPLE.com:/x"])?.keepsOrigin == true)
    #expect(try follow(["/x", "/x"])?.url.target == "/x")
    #expect(throws: Redirect.NotFollowed.self) { try follow(["/x", "/y"]) }
    for other in ["ftp://example.com/", "mailto:a@example.com", "http:x", "javascript:x", "ws:///x"] {
      #expect(throws: Redirect.NotFollowed.self, "\(other)") { try follow([other]) }
    }
    #expect(try follow(["/x"], status: 304) == nil && follow([]) == nil)
  }

  @Test(
    "what is no host and no port is refused by every way, before anything is connected",
    arguments: [
      ("evil.example\0.example.com", 80), ("", 80), ("a b", 80), ("a/b", 80), ("a\r\nb", 80), ("müller.example", 80),
      ("127.0.0.1", 0), ("127.0.0.1", -1), ("127.0.0.1", 65_536), ("127.0.0.1", 65_558), ("127.0.0.1", .max),
    ], [nil, "http://127.0.0.1:1", "https://127.0.0.1:1", "socks5://127.0.0.1:1"])
  func invalidOrigins(_ origin: (host: String, port: Int), proxy: String?) async throws {
    var options = ConnectOptions()
    if let proxy { options.proxy = .through(try Proxy(proxy)) }
    let final = options
    let error = await #expect(throws: ConnectError.self) {
      _ = try await Connect.open(Origin(host: origin.host, port: origin.port, isSecure: false), options: final)
    }
    guard case .invalidOrigin? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  /// A server that answers each of a client's writes with the next of some bytes, and then does something.
  private func withScriptedServer(
    _ answers: [Bytes], pieceSize: Int = .max, then end: @escaping @Sendable (SocketStream) async throws -> Void,
    _ body: (Int) async throws -> Void
  ) async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let serving = Task {
      while let socket = try await listener.read() {
        for answer in answers {
          _ = try await socket.read()
          var rest = answer
          while !rest.isEmpty {
            let piece = rest.prefix(pieceSize)
            rest = rest.dropFirst(piece.count)
            try await socket.write(piece)
            if !rest.isEmpty { try await Task.sleep(for: .milliseconds(2)) }
          }
        }
        try await end(socket)
      }
    }
    defer {
      serving.cancel()
      listener.cancel()
    }
    try await body(listener.port)
  }

  @Test(
    "an origin that speaks first is heard behind a proxy's answer, in the same read or later",
    arguments: ["http", "socks5"], [1, 7, .max])
  func greetings(scheme: String, pieceSize: Int) async throws {
    let reply: Bytes = [5, 0, 0, 1, 127, 0, 0, 1, 0, 25]
    let answers: [Bytes] =
      scheme == "http"
      ? ["HTTP/1.1 200 Connection established\r\n\r\n220 mail ready\r\n"]
      : [[5, 0], reply.followed(by: "220 mail ready\r\n")]
    try await withScriptedServer(answers, pieceSize: pieceSize) { socket in
      #expect(try await socket.read() == "QUIT\r\n")
      try await socket.write("221 bye\r\n")
      try await socket.close()
    } _: { port in
      var options = ConnectOptions()
      options.proxy = .through(try Proxy("\(scheme)://127.0.0.1:\(port)"))
      let stream = try await Connect.open(Origin(host: "mail.test", port: 25, isSecure: false), options: options)
      var received = ""
      while !received.hasSuffix("ready\r\n") { received += try #require(try await stream.read()).string }
      try await stream.write("QUIT\r\n")
      while let bytes = try await stream.read() { received += bytes.string }
      #expect(received == "220 mail ready\r\n221 bye\r\n")
      try await stream.close()
    }
  }

  @Test(
    "a refusal is told at once with what its body says, without the chunks' framing",
    arguments: [
      ("Content-Length: 7\r\n\r\nbecause", "because"), ("\r\nbecause", "because"),
      ("Transfer-Encoding: chunked\r\n\r\n3\r\nbec\r\n4;x=y\r\nause\r\n0\r\n\r\n", "because"),
      ("Transfer-Encoding: chunked\r\n\r\n3\r\nbec\r\nzz\r\n", "bec"), ("Content-Length: 100\r\n\r\nbec", "bec"),
      ("Content-Length: 100\r\n\r\n", ""), ("Content-Length: 3\r\n\r\nbecause", "bec"),
      ("Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nbec\r\n", ""),
    ], [1, .max])
  func refusals(_ answer: (rest: String, body: String), pieceSize: Int) async throws {
    // The connection stays open: nobody waits for its end.
    try await withScriptedServer([Bytes("HTTP/1.1 403 No\r\nX-Why: so\r\n\(answer.rest)")], pieceSize: pieceSize) {
      socket in
      _ = try? await socket.read()
    } _: { port in
      var options = ConnectOptions()
      options.proxy = .through(try Proxy("http://127.0.0.1:\(port)"))
      let final = options
      let start = ContinuousClock.now
      let error = await #expect(throws: ConnectError.self) {
        _ = try await Connect.open(Origin(host: "origin.test", port: 80, isSecure: false), options: final)
      }
      guard case .proxyRefused(403, let headers, let body)? = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      #expect(headers[HTTPField.Name("X-Why")!] == "so" && body.string == answer.body)
      #expect(ContinuousClock.now - start < .seconds(5))
    }
  }

  @Test("a connection that is lost during a handshake says during which", arguments: ["http", "socks5", "tls"])
  func lost(scheme: String) async throws {
    try await withScriptedServer([""]) { socket in
      // With bytes unread, and so with a reset.
      socket.abort(StreamError.aborted)
    } _: { port in
      var options = ConnectOptions()
      if scheme != "tls" { options.proxy = .through(try Proxy("\(scheme)://127.0.0.1:\(port)")) }
      let (final, origin) = (options, Origin(host: "127.0.0.1", port: port, isSecure: scheme == "tls"))
      await #expect {
        _ = try await Connect.open(origin, options: final)
      } throws: { error in
        switch error {
        case ConnectError.lost(let step, let error):
          step == (scheme == "tls" ? .tls : .proxy) && error.code == "ECONNRESET"
        // Without a reset it has ended.
        case ConnectError.proxyEndedEarly, TLSError.endedEarly: true
        default: false
        }
      }
    }
  }

  @Test("the opening handshake has a time of its own where one is given", arguments: [true, false])
  func handshakeTime(isWebSocket: Bool) async throws {
    try await withScriptedServer([]) { socket in
      while try await socket.read() != nil {}
    } _: { port in
      let limit = Duration.milliseconds(200)
      if isWebSocket {
        var options = WebSocketClientOptions()
        options.connect.stepTimeouts = [.handshake: limit]
        let final = options
        await #expect {
          _ = try await WebSocket.connect("ws://127.0.0.1:\(port)/", options: final)
        } throws: {
          if case WebSocketConnectError.timeout(limit) = $0 { true } else { false }
        }
      } else {
        var options = EventSourceClientOptions()
        options.connect.stepTimeouts = [.handshake: limit]
        let final = options
        await #expect {
          _ = try await EventSource.connect("http://127.0.0.1:\(port)/", options: final)
        } throws: {
          if case EventSourceError.timeout(limit) = $0 { true } else { false }
        }
      }
    }
  }

  @Test("a step that takes too long is named with the limit that was given", arguments: [nil, 200])
  func timeouts(stepMilliseconds: Int?) async throws {
    try await withScriptedServer([]) { socket in
      while try await socket.read() != nil {}
    } _: { port in
      var options = ConnectOptions()
      options.timeout = .milliseconds(300)
      options.wholeTimeout = .seconds(7)
      if let stepMilliseconds { options.stepTimeouts = [.proxy: .milliseconds(stepMilliseconds)] }
      options.proxy = .through(try Proxy("http://127.0.0.1:\(port)"))
      let final = options
      await #expect(throws: ConnectError.timeout(.proxy, stepMilliseconds.map { .milliseconds($0) } ?? .seconds(7))) {
        _ = try await Connect.open(Origin(host: "origin.test", port: 80, isSecure: false), options: final)
      }
    }
  }
}
