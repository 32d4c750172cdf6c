import Sluice
import Testing

/// The versions before the hybi drafts, as literal bytes from the drafts.
enum Hixie {
  /// The example of draft 76 §1.2: its eight bytes and their answer.
  static let handshake76 = """
    GET /demo HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nSec-WebSocket-Key2: 12998 5 Y3 1  .P00\r\n\
    Upgrade: WebSocket\r\nSec-WebSocket-Key1: 4 @1  46546xW%0l 1 5\r\nOrigin: http://example.com\r\n\r\n
    """
  static let body = "^n:ds[4U"
  static let answer = "8jKS'y:G*Co,Wxa-"
  static let handshake75 = """
    GET /demo HTTP/1.1\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nHost: example.com\r\nOrigin: http://example.com\r\n\r\n
    """

  static func text(_ text: String) -> [UInt8] { [0x00] + text.utf8 + [0xFF] }
  static let close: [UInt8] = [0xFF, 0x00]
}

@Suite("Attack 15: hixie-75 and hixie-76", .timeLimit(.minutes(5)))
struct HixieAttackTests {
  /// A connection whose handshake is done.
  private func open(_ server: AttackedServer, version: Int) async throws -> Attacker {
    let attacker = try await server.connect()
    try await attacker.send(version == 76 ? Hixie.handshake76 + Hixie.body : Hixie.handshake75)
    #expect(try await attacker.receiveHead().hasPrefix("HTTP/1.1 101 "))
    if version == 76 { #expect(try await attacker.receive(16) == Array(Hixie.answer.utf8)) }
    return attacker
  }

  @Test("attack 15: the examples of the drafts work, and the closing handshake")
  func examples() async throws {
    try await AttackedServer.run { server in
      let new = try await open(server, version: 76)
      try await new.send(Hixie.text("Hello") + Hixie.text("") + Hixie.text("grüße") + Hixie.close)
      let answer = await new.receiveAll()
      #expect(answer.bytes == Hixie.text("Hello") + Hixie.text("") + Hixie.text("grüße") + Hixie.close)
      #expect(answer.end == .closed)
      let old = try await open(server, version: 75)
      try await old.send(Hixie.text("Hello"))
      #expect(try await old.receive(7) == Hixie.text("Hello"))
      try await old.socket.close()
      #expect(await old.receiveAll().bytes == [])
    }
  }

  @Test("attack 15: a length of 2^20 bytes from 0x80 on ends the connection, and takes no memory", arguments: [75, 76])
  func endlessLength(version: Int) async throws {
    try await AttackedServer.run { server in
      let before = try server.residentMemory()
      for filler in [0x80, 0xFF] as [UInt8] {
        let attacker = try await open(server, version: version)
        _ = await attacker.flood([0x80] + [UInt8](repeating: filler, count: 1 << 20), times: 1)
        _ = await attacker.receiveAll()
      }
      #expect(try server.residentMemory() - before < 4 << 20)
    }
  }

  @Test("attack 15: a text whose 0xFF never comes ends at the message limit", arguments: [75, 76])
  func endlessText(version: Int) async throws {
    try await AttackedServer.run("pipe", "maxMessageSize=100000", "closeMilliseconds=500") { server in
      let before = try server.residentMemory()
      let attacker = try await open(server, version: version)
      try await attacker.send([0x00])
      // The end is on its way at once; what still comes is dropped until the time for that is over.
      let sent = await attacker.flood([UInt8](repeating: 0x61, count: 10_000), times: 100_000)
      #expect(sent < 100_000)
      _ = await attacker.receiveAll()
      #expect(try server.residentMemory() - before < 4 << 20)
    }
  }

  @Test("attack 15: a text grows in linear time")
  func slowText() async throws {
    try await AttackedServer.run { server in
      func time(bytes: Int) async throws -> Duration {
        let attacker = try await open(server, version: 76)
        defer { attacker.socket.abort(CancellationError()) }
        return try await server.processorTime {
          try await attacker.send([0x00])
          for _ in 0..<bytes / 10 { try await attacker.send([UInt8](repeating: 0x61, count: 10)) }
          try await attacker.send([0xFF])
          #expect(try await attacker.receive(bytes + 2).count == bytes + 2)
        }
      }
      _ = try await time(bytes: 10_000)
      expectLinear("a text", small: try await time(bytes: 50_000), fourTimesAsMuch: try await time(bytes: 200_000))
    }
  }

  @Test(
    "attack 15: keys without spaces, with numbers beyond 32 bits, or that their spaces do not divide",
    arguments: [
      "4@146546xW%0l15", "", "     ", "42 949 672 95 9", "99999999999999999999 9", "1 2 5", "4 @1  46546xW%0l 1 6",
    ])
  func badKeys(key: String) async throws {
    let server = try await InProcessServer.start()
    for good in ["4 @1  46546xW%0l 1 5", "12998 5 Y3 1  .P00"] {
      let attacker = try await server.connect()
      try await attacker.send(Hixie.handshake76.replacing(good, with: key) + Hixie.body)
      let answer = await attacker.receiveAll()
      #expect(answer.bytes.starts(with: "HTTP/1.1 400 ".utf8), "\(key)")
      #expect(answer.end == .closed)
    }
    server.stop()
  }

  @Test("attack 15: eight bytes that come late are waited for; that never come, until the handshake's time is over")
  func lateBody() async throws {
    try await AttackedServer.run("pipe", "handshakeMilliseconds=3000") { server in
      let late = try await server.connect()
      try await late.send(Hixie.handshake76)
      // The head is answered before: a proxy may hold the bytes back until it is.
      #expect(try await late.receiveHead().hasPrefix("HTTP/1.1 101 "))
      for byte in Hixie.body.utf8 {
        try await late.send([byte])
        try await Task.sleep(for: .milliseconds(10))
      }
      try await late.send(Hixie.text("x"))
      #expect(try await late.receive(19) == Hixie.answer.utf8 + Hixie.text("x"))
      late.socket.abort(CancellationError())
      let never = try await server.connect()
      try await never.send(Hixie.handshake76 + Hixie.body.dropLast())
      let start = ContinuousClock.now
      _ = await never.receiveAll()
      #expect(ContinuousClock.now - start < .seconds(30))
    }
  }

  @Test(
    "attack 15: frames that are wrong, split at each byte and byte by byte, end the same way",
    arguments: [
      ([0x01, 0x61, 0xFF], 75), ([0x7F], 76), (Hixie.text("a") + [0x00, 0xC3, 0x28, 0xFF], 76),
      ([0x00, 0xE2, 0x82, 0xFF], 76), ([0x80, 0x03, 0x61, 0x62, 0x63] + Hixie.text("b") + Hixie.close, 76),
      ([0xFF, 0x00] + Hixie.text("late"), 76), ([0xFF, 0x01, 0x61] + Hixie.text("c") + Hixie.close, 76),
      ([0x81, 0x80, 0x80, 0x02, 0x61, 0x62] + Hixie.text("d") + Hixie.close, 76),
      ([0x80] + [UInt8](repeating: 0xFF, count: 12), 76), ([0x80] + [UInt8](repeating: 0x80, count: 20), 76),
    ] as [([UInt8], Int)])
  func split(bytes: [UInt8], version: Int) async throws {
    let head = version == 76 ? Hixie.handshake76 + Hixie.body : Hixie.handshake75
    let answers = try await answersHoweverSplit(bytes, after: head)
    #expect(answers.count == 1)
    let texts = answers.first ?? []
    #expect(texts.isEmpty || texts.first == 0x00 || texts.first == 0xFF)
  }

  @Test("attack 15: a version that is switched off is not spoken")
  func switchedOff() async throws {
    var options = WebSocketServerOptions()
    options.versions = [.hybi13]
    let server = try await InProcessServer.start(options)
    for request in [Hixie.handshake75, Hixie.handshake76 + Hixie.body] {
      let attacker = try await server.connect()
      try await attacker.send(request)
      #expect(await attacker.receiveAll().bytes.starts(with: "HTTP/1.1 426 ".utf8))
    }
    server.stop()
  }
}
