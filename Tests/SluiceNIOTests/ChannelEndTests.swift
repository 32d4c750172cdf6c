#if NIO
  import Sluice
  import SluiceNIO
  import SluiceStreams
  import SluiceWebSocketProtocol
  import Synchronization
  import Testing

  @Suite("Ends of a WebSocket on a channel", .timeLimit(.minutes(1)))
  struct ChannelEndTests {
    enum Answer: CaseIterable { case pipe, throughOperator, loop, parts }

    private static let request: Bytes = """
      GET /ws HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n
      """

    @Test(
      "a peer that ends its half without a Close gets the answers to what it sent, and an end",
      arguments: Answer.allCases)
    func answers(_ answer: Answer) async throws {
      let upgrader = WebSocketUpgrader { ws in
        switch answer {
        case .pipe: try await ws.pipe(ws)
        case .throughOperator: try await ws.map { $0 }.pipe(ws)
        case .loop: for try await message in ws { try await ws.send(message) }
        case .parts: while let part = try await ws.parts.read() { try await ws.parts.write(part) }
        }
      }
      try await NIOServer.run(upgrader: upgrader) { server in
        for (size, pause) in [(3, 0), (3, 20), (30_000, 0), (30_000, 20)] {
          let socket = try await TCP.connect("127.0.0.1", port: server.port)
          let messages = (0..<5).map { Bytes([UInt8](repeating: UInt8(65 + $0), count: size)) }
          var frames = BytesBuilder()
          for message in messages {
            let header = FrameHeader(.binary, maskingKey: MaskingKey(0, 0, 0, 0), payloadLength: message.count)
            frames.append(header, message.span)
          }
          try await socket.write(Self.request)
          var head = ""
          while !head.contains("\r\n\r\n"), let chunk = try await socket.read() { head += chunk.string }
          async let received = Self.readAll(socket)
          try await socket.write(frames.take())
          try await Task.sleep(for: .milliseconds(pause))
          try await socket.close()
          #expect(try Self.payloads(in: await received) == messages, "\(size) bytes, \(pause) ms")
        }
      }
    }

    @Test(
      "a handler that never reads hears that its peer has gone, behind more than is read ahead",
      arguments: [true, false])
    func unread(isReset: Bool) async throws {
      let ends = Mutex(0)
      var options = WebSocketHandshakeOptions()
      options.connection.closeTimeout = .milliseconds(200)
      options.connection.stallTimeout = .milliseconds(200)
      let upgrader = WebSocketUpgrader(options: options) { ws in
        defer { ends.withLock { $0 += 1 } }
        try await Task.sleep(for: .seconds(50))
      }
      try await NIOServer.run(upgrader: upgrader) { server in
        var clientOptions = WebSocketClientOptions()
        clientOptions.request.connection.closeTimeout = .milliseconds(200)
        clientOptions.request.connection.stallTimeout = .milliseconds(200)
        let client = try await WebSocket.connect("ws://127.0.0.1:\(server.port)/ws", options: clientOptions)
        for _ in 0..<100 { try await client.send(Bytes([UInt8](repeating: 1, count: 1000))) }
        try await Task.sleep(for: .milliseconds(50))
        if isReset { client.abort(StreamError.aborted) } else { try? await client.close() }
        let deadline = ContinuousClock.now + .seconds(20)
        while ends.withLock({ $0 }) == 0, ContinuousClock.now < deadline {
          try await Task.sleep(for: .milliseconds(10))
        }
        #expect(ends.withLock { $0 } == 1)
      }
    }

    private static func readAll(_ socket: SocketStream) async throws -> Bytes {
      var all = BytesBuilder()
      while let chunk = try await socket.read() { all.append(chunk) }
      return all.take()
    }

    private static func payloads(in bytes: Bytes) throws -> [Bytes] {
      var machine = WebSocketMachine(.client, keys: MaskingKeys())
      var (rest, payloads): (Bytes, [Bytes]) = (bytes, [])
      while let event = try machine.nextEvent(in: &rest) {
        if case .data(let message) = event { payloads.append(message.bytes) }
      }
      return payloads
    }
  }
#endif
