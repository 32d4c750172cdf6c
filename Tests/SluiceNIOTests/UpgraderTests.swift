#if NIO
  import Sluice
  import SluiceNIO
  import Synchronization
  import Testing

  @Suite("WebSockets in a SwiftNIO pipeline", .timeLimit(.minutes(1)))
  struct UpgraderTests {
    @Test("the application is asked once for a subprotocol, and once what it thinks of a request; what it says counts")
    func asksOnce() async throws {
      let (chosen, looked) = (Counter(), Counter())
      var options = WebSocketHandshakeOptions()
      // The second choice of a client that is asked twice would be another.
      options.chooseProtocol = { _, offered in offered[chosen.next() % offered.count] }
      options.onRequest = { _ in ["X-Asked": "\(looked.next())"] }
      let upgrader = WebSocketUpgrader(options: options) { ws in
        try await ws.send(Message(ws.protocol))
        try await ws.pipe(ws)
      }
      try await NIOServer.run(upgrader: upgrader) { server in
        for number in 0..<2 {
          let ws = try await WebSocket.connect("ws://127.0.0.1:\(server.port)/chat?a=1", protocols: ["a", "b"])
          let expected = ["a", "b"][number]
          #expect(ws.protocol == expected)
          #expect(try await ws.read()?.text == expected)
          #expect(ws.headers["x-asked"] == "\(number)")
          try await ws.close(.normal)
        }
        #expect(chosen.value == 2 && looked.value == 2)
      }
    }

    @Test("a WebSocket on a channel knows where its client is, also when it is over")
    func remoteAddress() async throws {
      let (addresses, known) = AsyncStream.makeStream(of: IPAddress?.self)
      let upgrader = WebSocketUpgrader { ws in
        known.yield(ws.remoteAddress)
        await ws.waitUntilClosed()
        known.yield(ws.remoteAddress)
        known.finish()
      }
      try await NIOServer.run(upgrader: upgrader) { server in
        let ws = try await WebSocket.connect("ws://127.0.0.1:\(server.port)/")
        try await ws.close(.normal)
        let local = IPAddress("127.0.0.1")
        #expect(ws.remoteAddress == local)
        var found: [IPAddress?] = []
        for await address in addresses { found.append(address) }
        #expect(found == [local, local])
      }
    }

    @Test("the application takes its time over a request, and accepts it with a value, or refuses it")
    func acceptance() async throws {
      var options = WebSocketHandshakeOptions()
      options.onRequest = { request in
        try await Task.sleep(for: .milliseconds(50))
        guard let path = request.path, path != "/secret" else {
          throw RequestRejection(status: 403, reason: "not for you")
        }
        return WebSocketAcceptance(headers: ["X-Path": path], subprotocol: "b", value: path)
      }
      let upgrader = WebSocketUpgrader(options: options) { ws in
        try await ws.send(ws.value(as: String.self) ?? "nobody")
        await ws.waitUntilClosed()
      }
      try await NIOServer.run(upgrader: upgrader) { server in
        let ws = try await WebSocket.connect("ws://127.0.0.1:\(server.port)/ada", protocols: ["a", "b"])
        #expect(ws.headers["x-path"] == "/ada" && ws.protocol == "b")
        #expect(try await ws.read()?.text == "/ada")
        try await ws.close()
        do {
          _ = try await WebSocket.connect("ws://127.0.0.1:\(server.port)/secret", protocols: ["b"])
          Issue.record("it was accepted")
        } catch WebSocketConnectError.handshake(.refused(let status, _, let body)) {
          #expect(status == 403 && body.string == "not for you\n")
        }
        do {
          _ = try await WebSocket.connect("ws://127.0.0.1:\(server.port)/", protocols: ["a"])
          Issue.record("a subprotocol was agreed upon that was not offered")
        } catch WebSocketConnectError.handshake(.refused(let status, _, _)) {
          #expect(status == 500)
        }
      }
    }

    @Test(
      "a client that leaves while it is asked about ends the question, and so does the time for the handshake",
      arguments: [false, true])
    func endOfQuestion(leaves: Bool) async throws {
      let (ends, ended) = AsyncStream.makeStream(of: Void.self)
      var options = WebSocketHandshakeOptions()
      options.handshakeTimeout = leaves ? .seconds(30) : .milliseconds(200)
      options.onRequest = { _ in
        defer { ended.finish() }
        try await Task.sleep(for: .seconds(30))
        return [:]
      }
      let upgrader = WebSocketUpgrader(options: options) { _ in }
      try await NIOServer.run(upgrader: upgrader) { server in
        let connecting = Task { try await WebSocket.connect("ws://127.0.0.1:\(server.port)/") }
        if leaves {
          try await Task.sleep(for: .milliseconds(200))
          connecting.cancel()
        }
        await #expect(throws: (any Error).self) { _ = try await connecting.value }
        for await _ in ends {}
      }
    }

    @Test("large messages pass without being cut or mixed, and outlive the buffers that they were read into")
    func large() async throws {
      let upgrader = WebSocketUpgrader { ws in try await ws.pipe(ws) }
      // A handler of event streams, that leaves when it has become a WebSocket.
      let feed: @Sendable () -> EventSourceHandler = { EventSourceHandler { try await $0.send("event") } }
      try await NIOServer.run(upgrader: upgrader, feed: feed) { server in
        let ws = try await WebSocket.connect("ws://127.0.0.1:\(server.port)/")
        let messages = (0..<20).map { number in
          Message.binary(Bytes((0..<number * 9_973).map { UInt8(truncatingIfNeeded: $0 &+ number) }))
        }
        async let sent: Void = { for message in messages { try await ws.send(message) } }()
        var received: [Message] = []
        while received.count < messages.count, let message = try await ws.read() { received.append(message) }
        try await sent
        #expect(received == messages)
        try await ws.close(.normal)
      }
    }
  }

  final class Counter: Sendable {
    private let count = Atomic<Int>(0)
    var value: Int { count.load(ordering: .sequentiallyConsistent) }
    /// The count before.
    func next() -> Int { count.add(1, ordering: .sequentiallyConsistent).oldValue }
  }
#endif
