import Sluice
import Testing

@Suite("Attacks 17-23: compression", .timeLimit(.minutes(5)))
struct CompressionAttackTests {
  private static let offer = "Sec-WebSocket-Extensions: permessage-deflate"

  /// A connection that has agreed upon compression.
  private func open(_ server: AttackedServer) async throws -> Attacker {
    let attacker = try await server.connect()
    try await attacker.send(Attacker.handshake(adding: [Self.offer]))
    #expect(try await attacker.receiveHead().contains("\r\nSec-WebSocket-Extensions: permessage-deflate"))
    return attacker
  }

  /// A message in one frame, or in many.
  private func frames(_ payload: [UInt8], count: Int = 1) -> [UInt8] {
    let size = max((payload.count + count - 1) / count, 1)
    var bytes: [UInt8] = []
    for start in stride(from: 0, to: payload.count, by: size) {
      let end = min(start + size, payload.count)
      let first: UInt8 = (start == 0 ? 0x42 : 0x00) | (end == payload.count ? 0x80 : 0x00)
      bytes += frame(first, payload[start..<end])
    }
    return bytes
  }

  /// Whether a new connection gets a compressed message back: the contexts that connections share are sound.
  private func inflates(_ server: AttackedServer) async throws {
    let attacker = try await open(server)
    try await attacker.send(frame(0xC1, Deflated.message(String(repeating: "sound ", count: 20))) + frame(0x88))
    let answer = await attacker.receiveAll().bytes
    #expect(answer.first == 0xC1 && answer.suffix(2) == unmaskedFrame(0x88))
  }

  @Test(
    "attack 17: a bomb of 1 GB in one frame and in 1000 fragments ends at the inflated limit", arguments: [1, 1000])
  func bomb(fragments: Int) async throws {
    try await AttackedServer.run("pipe", "maxMessageSize=\(1 << 20)", "deflate=1") { server in
      try await inflates(server)
      func attack(inflated: Int) async throws -> Duration {
        let attacker = try await open(server)
        let bytes = frames(Deflated.zeros(inflated), count: fragments)
        return try await server.processorTime {
          async let sent = attacker.flood(bytes, times: 1)
          #expect(await attacker.receiveAll().bytes == close(1009))
          _ = await sent
        }
      }
      let small = try await attack(inflated: 2 << 20)
      let before = try server.residentMemory()
      // Bytes that come after the limit are read and dropped, not inflated: what 500 times as many cost is far less than that.
      let large = try await attack(inflated: 1 << 30)
      #expect(try server.residentMemory() - before < 4 << 20)
      #expect(large < (small + .milliseconds(5)) * 100)
      try await inflates(server)
    }
  }

  @Test("attack 18: the limit is of inflated bytes over all fragments, to the byte", arguments: [1, 2, 7])
  func limit(fragments: Int) async throws {
    let size = 1 + 258 * 40
    try await AttackedServer.run("pipe", "maxMessageSize=\(size)", "deflate=1") { server in
      let exact = try await open(server)
      try await exact.send(frames(Deflated.zeros(size - 1), count: fragments) + frame(0x88))
      let answer = await exact.receiveAll().bytes
      #expect(answer.first == 0xC2 && answer.suffix(2) == unmaskedFrame(0x88))
      var stream = Deflated()
      stream.beginBlock(type: 1)
      for _ in 0..<2 { stream.appendLiteral(0) }
      for _ in 0..<40 { stream.appendRun() }
      stream.endBlock()
      stream.endMessage()
      let over = try await open(server)
      try await over.send(frames(stream.bytes, count: fragments))
      #expect(await over.receiveAll().bytes == close(1009))
    }
  }

  @Test("attack 18: a context that is taken over makes the second message small, and the limit holds for it too")
  func takeover() async throws {
    try await AttackedServer.run("pipe", "maxMessageSize=1000", "deflate=takeover") { server in
      let attacker = try await open(server)
      // The second message begins with a match that reaches into the first.
      var second = Deflated()
      second.beginBlock(type: 1)
      second.appendMatch(distance: 3)
      second.endBlock()
      second.endMessage()
      var bomb = Deflated()
      bomb.beginBlock(type: 1)
      for _ in 0..<4 { bomb.appendRun() }
      bomb.endBlock()
      bomb.endMessage()
      try await attacker.send(frame(0xC1, Deflated.message("abc")) + frame(0xC1, second.bytes))
      // Its own answers are compressed by zlib: "abc", and "abc" again by what it remembers.
      let answer = try await attacker.receive(7)
      #expect(answer.first == 0xC1)
      try await attacker.send(frame(0xC1, bomb.bytes))
      #expect(await attacker.receiveAll().bytes.suffix(4) == close(1009))
    }
  }

  @Test(
    "attack 19: offers with parameters that can't be are declined, and the connection opens without compression",
    arguments: [
      "server_max_window_bits=7", "server_max_window_bits=16", "server_max_window_bits=015",
      "server_max_window_bits=+9",
      "server_max_window_bits", "server_max_window_bits=\"16\"", "server_max_window_bits=99999999999999999999",
      "client_max_window_bits=7", "client_max_window_bits=0x9", "client_max_window_bits=-9",
      "server_no_context_takeover=1", "client_no_context_takeover=true",
      "server_no_context_takeover; server_no_context_takeover",
      "server_max_window_bits=10; server_max_window_bits=10", "unknown", "unknown=1", "Server_Max_Window_Bits=10",
    ])
  func badOffers(parameters: String) async throws {
    var options = WebSocketServerOptions()
    options.extensions = [PermessageDeflate()]
    let server = try await InProcessServer.start(options)
    let (declined, head) = try await server.open(Self.offer + "; " + parameters)
    #expect(head.hasPrefix("HTTP/1.1 101 ") && !head.contains("Sec-WebSocket-Extensions"))
    // So RSV1 means nothing.
    try await declined.send(frame(0xC1, Deflated.message("x")))
    #expect(await declined.receiveAll().bytes == close(1002))
    // The next offer is taken.
    let (taken, answer) = try await server.open(Self.offer + "; " + parameters + ", permessage-deflate")
    #expect(answer.contains("\r\nSec-WebSocket-Extensions: permessage-deflate"))
    taken.socket.abort(CancellationError())
    server.stop()
  }

  @Test(
    "attack 19: values that are empty or badly quoted are malformed",
    arguments: ["=", "=\"", "=\"\"", "=\"1 0\"", "=10 11"])
  func malformedOffers(value: String) async throws {
    let server = try await InProcessServer.start()
    let (attacker, head) = try await server.open(Self.offer + "; server_max_window_bits" + value)
    #expect(head.hasPrefix("HTTP/1.1 400 "))
    attacker.socket.abort(CancellationError())
    server.stop()
  }

  @Test("attack 19: windows of 8 to 15 bits are agreed upon and kept", arguments: 8...15)
  func windows(bits: Int) async throws {
    var options = WebSocketServerOptions()
    let window = PermessageDeflate.Window(contextTakeover: true)
    var deflate = PermessageDeflate(outgoing: window, incoming: window)
    deflate.threshold = 0
    options.extensions = [deflate]
    let server = try await InProcessServer.start(options)
    let (attacker, head) = try await server.open(
      Self.offer + "; server_max_window_bits=\"\(bits)\"; client_max_window_bits=\(bits)")
    #expect(head.contains("server_max_window_bits=\(bits)") && head.contains("client_max_window_bits=\(bits)"))
    attacker.socket.abort(CancellationError())
    var client = WebSocketClientOptions()
    let small = PermessageDeflate.Window(contextTakeover: true, bits: bits)
    var offering = PermessageDeflate(outgoing: small, incoming: small)
    offering.threshold = 0
    client.extensions = [offering]
    let ws = try await WebSocket.connect(server.url, options: client)
    let line = "a line that comes again and again, and fills any window soon "
    for count in [1, 3, 10, 1000] {
      let text = String(repeating: line, count: count)
      try await ws.send(text)
      #expect(try await ws.read()?.text == text)
    }
    try await ws.close(.normal)
    server.stop()
  }

  @Test(
    "attack 19: a server that answers what was not offered fails the handshake",
    arguments: [
      "server_max_window_bits=7", "server_max_window_bits=16", "server_max_window_bits=", "server_max_window_bits=015",
      "server_max_window_bits=+9", "server_max_window_bits", "client_max_window_bits", "client_max_window_bits=16",
      "unknown",
      "server_no_context_takeover; server_no_context_takeover", "server_no_context_takeover=1", "x=\"",
    ])
  func badAnswers(parameters: String) async throws {
    var options = WebSocketClientOptions()
    options.extensions = [
      PermessageDeflate(outgoing: .init(contextTakeover: true), incoming: .init(contextTakeover: true))
    ]
    let final = options
    let error = try await errorOfConnecting(options: final) {
      acceptance(of: $0, "Sec-WebSocket-Extensions: permessage-deflate; " + parameters)
    }
    guard case .handshake(let reason)? = error as? WebSocketConnectError else {
      Issue.record("\(String(describing: error))")
      return
    }
    switch reason {
    case .invalidExtension("permessage-deflate", _), .malformedExtensions: break
    default: Issue.record("\(reason)")
    }
    for answer in ["permessage-deflate, permessage-deflate", "permessage-deflate, other", "PERMESSAGE-DEFLATE"] {
      let other = try await errorOfConnecting(options: final) {
        acceptance(of: $0, "Sec-WebSocket-Extensions: " + answer)
      }
      #expect(other is WebSocketConnectError, "\(answer)")
    }
  }

  /// Compressed messages that no sender writes, and what they are answered with.
  private static let broken: [(String, [UInt8], UInt16)] = {
    var truncated = Deflated()
    truncated.beginBlock(type: 1)
    for byte in "cut".utf8 { truncated.appendLiteral(byte) }
    truncated.align()
    var stored = Deflated()
    stored.beginBlock(type: 0)
    stored.align()
    var distance = Deflated()
    distance.beginBlock(type: 1)
    distance.appendMatch(distance: 4)
    distance.endBlock()
    distance.endMessage()
    var type = Deflated()
    type.beginBlock(type: 3)
    type.align()
    return [
      ("a block cut off", truncated.bytes, 1007),
      ("a stored block with a wrong length", stored.bytes + [1, 0, 1, 0, 1], 1007),
      ("a stored block cut off", stored.bytes + [5, 0, 0xFA, 0xFF, 1, 2], 1007),
      ("a distance beyond the window", distance.bytes, 1007), ("a block of the reserved type", type.bytes, 1007),
      ("trailing bytes", Deflated.message("x") + [0xFF, 0xFF, 0xFF], 1007),
      ("noise", (0..<100).map { UInt8(truncatingIfNeeded: $0 &* 37 | 7) }, 1007),
      ("text that is not UTF-8", invalidText, 1007),
    ]
  }()

  private static let invalidText: [UInt8] = {
    var stream = Deflated()
    stream.beginBlock(type: 1)
    for byte in [0x61, 0xC3, 0x28] as [UInt8] { stream.appendLiteral(byte) }
    stream.endBlock()
    stream.endMessage()
    return stream.bytes
  }()

  @Test(
    "attack 20: compressed data that is none ends with 1007, and no context is used again after it",
    arguments: ["1", "takeover"])
  func broken(setting: String) async throws {
    try await AttackedServer.run("pipe", "deflate=\(setting)") { server in
      for (name, bytes, code) in Self.broken {
        for count in [1, 3] {
          let attacker = try await open(server)
          var message = frames(bytes, count: count)
          message[0] = message[0] & 0xF0 | 0x01
          try await attacker.send(message + frame(0xC1, Deflated.message("after")))
          #expect(await attacker.receiveAll().bytes == close(code), "\(name)")
          try await inflates(server)
        }
      }
    }
  }

  @Test("attack 20: a message whose block is marked as the last one is taken (RFC 7692 §7.2.3.4)")
  func finalBlock() async throws {
    var last = Deflated()
    last.beginBlock(isFinal: true, type: 1)
    for byte in "Hello".utf8 { last.appendLiteral(byte) }
    last.endBlock()
    last.align()
    // The RFC's own bytes.
    #expect(last.bytes == hex("f3 48 cd c9 c9 07 00"))
    // What comes after it has the same window.
    var next = Deflated()
    next.beginBlock(type: 1)
    next.appendMatch(distance: 4)
    next.endBlock()
    next.endMessage()
    let messages = unmaskedFrame(0xC1, last.bytes + [0x00]) + unmaskedFrame(0xC1, next.bytes)
    var options = WebSocketClientOptions()
    options.extensions = [PermessageDeflate(incoming: .init(contextTakeover: true))]
    try await withClient(
      of: { try await $0.send(messages) }, fields: ["Sec-WebSocket-Extensions: permessage-deflate"], options: options,
      runs: { (ws: WebSocket) async throws -> Void in
        #expect(try await ws.read() == "Hello")
        #expect(try await ws.read() == "ell")
      },
      answers: { _ in })
  }

  @Test("attack 20: a message of empty last blocks costs no more when the window is full")
  func emptyFinalBlocks() async throws {
    try await AttackedServer.run("pipe", "deflate=takeover") { server in
      // Two bytes for each block.
      let blocks = frame(0xC2, [[UInt8]](repeating: [0x03, 0x00], count: 100_000).joined() + [0x00])
      func time(after filler: [UInt8]) async throws -> Duration {
        let attacker = try await open(server)
        defer { attacker.socket.abort(CancellationError()) }
        try await attacker.send(frame(0xC2, filler))
        _ = try await attacker.receive(3)
        return try await server.processorTime {
          try await attacker.send(blocks + frame(0x88))
          _ = await attacker.receiveAll()
        }
      }
      var (empty, full) = (Duration.seconds(100), Duration.seconds(100))
      for _ in 0..<3 {
        empty = min(empty, try await time(after: Deflated.zeros(1)))
        full = min(full, try await time(after: Deflated.zeros(64 << 10)))
      }
      // A window that is copied out and in for each of them takes more than twice as long, in a release build ten times.
      #expect(full < empty * 1.5, "\(empty), \(full)")
    }
  }

  @Test(
    "attack 21: connections idle after one compressed message cost what is documented, and nothing once they are closed"
  )
  func idle() async throws {
    // Without takeover a connection holds no context; with it, the 39 KiB and 262 KiB of the documentation.
    for (setting, count, limit) in [("1", 400, 12 << 10), ("takeover", 50, (39 + 262 + 16) << 10)] {
      try await AttackedServer.run("pipe", "deflate=\(setting)") { server in
        func hold() async throws -> [Attacker] {
          var held: [Attacker] = []
          for _ in 0..<count {
            let attacker = try await open(server)
            try await attacker.send(frame(0xC1, Deflated.message("hello")))
            _ = try await attacker.receive(2)
            held.append(attacker)
          }
          return held
        }
        func release(_ held: [Attacker]) async throws {
          for attacker in held { attacker.socket.abort(CancellationError()) }
          try await server.echoes()
        }
        for attacker in try await hold().prefix(20) { _ = attacker }
        let before = try server.residentMemory()
        let first = try await hold()
        let held = try server.residentMemory()
        #expect(held - before < count * limit, "\((held - before) / count) bytes each")
        try await release(first)
        // What was given back serves the next.
        let second = try await hold()
        #expect(try server.residentMemory() - held < count * limit / 4)
        try await release(second)
      }
    }
  }

  @Test("attack 22: 5000 compressed messages at once on 50 connections: bounded memory, linear time")
  func concurrency() async throws {
    try await AttackedServer.run("pipe", "deflate=1") { server in
      let text = (0..<200).map { "number \($0), " }.joined()
      let message = frame(0xC1, Deflated.message(text))
      func attack(messages: Int) async throws -> (time: Duration, memory: Int) {
        let before = try server.residentMemory()
        var memory = 0
        let time = try await server.processorTime {
          var attackers: [Attacker] = []
          for _ in 0..<50 { attackers.append(try await open(server)) }
          try await withThrowingTaskGroup(of: Void.self) { group in
            for attacker in attackers {
              group.addTask {
                async let sent: Void = attacker.send(
                  Array([[UInt8]](repeating: message, count: messages / 50).joined()) + frame(0x88))
                let answer = await attacker.receiveAll()
                #expect(answer.bytes.suffix(2) == unmaskedFrame(0x88))
                try await sent
              }
            }
            try await group.waitForAll()
          }
          memory = try server.residentMemory() - before
        }
        for _ in 0..<3 { try await inflates(server) }
        return (time, memory)
      }
      _ = try await attack(messages: 500)
      let small = try await attack(messages: 1250)
      let large = try await attack(messages: 5000)
      #expect(large.memory < 16 << 20)
      expectLinear("messages", small: small.time, fourTimesAsMuch: large.time)
    }
  }

  @Test("attack 23: a message that holds a secret can be left uncompressed")
  func optOut() async throws {
    var deflate = PermessageDeflate()
    deflate.threshold = 0
    var options = WebSocketServerOptions()
    options.extensions = [deflate]
    let server = try await InProcessServer.start(options) { ws in
      try await ws.send(Message("aaaaaaaaaaaaaaaa"))
      var secret = Message("aaaaaaaaaaaaaaaa")
      secret.isCompressible = false
      try await ws.send(secret)
      try await ws.parts.write(MessagePart(kind: .text, bytes: "bbbbbbbb", isFinal: false, isCompressible: false))
      try await ws.parts.write(MessagePart(kind: .text, bytes: "bbbbbbbb", isFinal: true, isCompressible: false))
    }
    let (attacker, _) = try await server.open(Self.offer)
    let answer = try await { () async throws -> [UInt8] in
      try await attacker.send(frame(0x88))
      return await attacker.receiveAll().bytes
    }()
    #expect(answer.first == 0xC1)
    let plain =
      unmaskedFrame(0x81, "aaaaaaaaaaaaaaaa") + unmaskedFrame(0x01, "bbbbbbbb") + unmaskedFrame(0x80, "bbbbbbbb")
    #expect(answer.dropFirst(2 + Int(answer[1])).starts(with: plain))
    server.stop()
  }
}
