import Sluice
import SluiceWebSocketProtocol
import Testing

@Suite("Attacks 24-35: handshake and HTTP", .timeLimit(.minutes(5)))
struct HandshakeAttackTests {
  @Test("attack 24: 2000 fields, and one field of 20 MB")
  func longHeads() async throws {
    try await AttackedServer.run { server in
      let before = try server.residentMemory()
      for (head, status) in [
        ("GET / HTTP/1.1\r\nHost: test\r\n" + (0..<2000).map { "A\($0): b\r\n" }.joined() + "\r\n", "431"),
        ("GET / HTTP/1.1\r\nHost: test\r\nA: " + String(repeating: "x", count: 20_000_000) + "\r\n\r\n", "431"),
        ("GET /" + String(repeating: "x", count: 20_000_000) + " HTTP/1.1\r\nHost: test\r\n\r\n", "414"),
      ] {
        let attacker = try await server.connect()
        _ = await attacker.flood(Array(head.utf8), times: 1)
        #expect(try await attacker.receiveHead().hasPrefix("HTTP/1.1 \(status) "))
        attacker.socket.abort(CancellationError())
      }
      #expect(try server.residentMemory() - before < 2 << 20)
    }
  }

  @Test("attack 24: 100 fields are taken, 101 are not")
  func fieldCount() async throws {
    try await AttackedServer.run { server in
      for (count, status) in [(95, "101"), (96, "431")] {
        let attacker = try await server.connect()
        try await attacker.send(Attacker.handshake(adding: (0..<count).map { "A\($0): b" }))
        #expect(try await attacker.receiveHead().hasPrefix("HTTP/1.1 \(status) "))
        attacker.socket.abort(CancellationError())
      }
    }
  }

  @Test(
    "attack 24: a head of 20 MB in writes of 100 bytes takes linear time, whatever the limit",
    arguments: [16 << 10, 64 << 20])
  func smallWrites(limit: Int) async throws {
    let settings = ["maxHeadBytes=\(limit)", "maxFieldCount=1000000", "handshakeMilliseconds=60000"]
    try await AttackedServer.run("pipe", settings[0], settings[1], settings[2]) { server in
      let field = "A-field: " + String(repeating: "x", count: 89) + "\r\n"
      func time(fields: Int) async throws -> Duration {
        let attacker = try await server.connect()
        defer { attacker.socket.abort(CancellationError()) }
        return try await server.processorTime {
          try await attacker.send("GET / HTTP/1.1\r\n")
          let bytes = Bytes(field)
          // A peer that was refused may be cut off before the last of it.
          for _ in 0..<fields { try? await attacker.socket.write(bytes) }
          try? await attacker.send("\r\n")
          // There is no Host.
          #expect(try await attacker.receiveHead().hasPrefix("HTTP/1.1 4"))
        }
      }
      _ = try await time(fields: 2000)
      expectLinear("a head", small: try await time(fields: 50_000), fourTimesAsMuch: try await time(fields: 200_000))
    }
  }

  @Test(
    "attack 25: lists that are hard to read take linear time",
    arguments: [
      ("Sec-WebSocket-Protocol", " "), ("Sec-WebSocket-Protocol", ","), ("Sec-WebSocket-Protocol", "a,"),
      ("Sec-WebSocket-Protocol", " ,\t"), ("Sec-WebSocket-Extensions", " "), ("Sec-WebSocket-Extensions", ","),
      ("Sec-WebSocket-Extensions", "a,"), ("Sec-WebSocket-Extensions", "a;b,"),
      ("Sec-WebSocket-Extensions", "a;b=\"\\b\";"),
      ("Sec-WebSocket-Extensions", "a;b=\"" + String(repeating: "\\b", count: 100)),
      ("Sec-WebSocket-Extensions", "permessage-deflate,"),
      ("Sec-WebSocket-Extensions", "permessage-deflate;server_max_window_bits=7,"), ("Connection", "x,"),
      ("Upgrade", " x "),
    ])
  func hardLists(name: String, part: String) async throws {
    try await AttackedServer.run("pipe", "maxHeadBytes=\(4 << 20)", "deflate=1") { server in
      func time(bytes: Int) async throws -> Duration {
        let attacker = try await server.connect()
        defer { attacker.socket.abort(CancellationError()) }
        let head = Attacker.handshake(adding: [
          "\(name): x" + String(repeating: part, count: bytes / part.utf8.count) + "y"
        ])
        return try await server.processorTime {
          try await attacker.send(head)
          #expect(try await attacker.receiveHead().hasPrefix("HTTP/1.1 "))
        }
      }
      _ = try await time(bytes: 32_000)
      expectLinear("a list", small: try await time(bytes: 64_000), fourTimesAsMuch: try await time(bytes: 256_000))
    }
  }

  @Test("attack 25: the same lists from a server take a client linear time")
  func hardListsOfServer() async throws {
    var options = WebSocketClientOptions()
    options.headLimits.maxHeadBytes = 4 << 20
    options.extensions = [PermessageDeflate()]
    for line in [
      "Sec-WebSocket-Extensions: a;b=\"" + String(repeating: "\\b", count: 500_000),
      "Sec-WebSocket-Protocol: " + String(repeating: "a ,", count: 500_000),
    ] {
      let error = try await errorOfConnecting(options: options) { acceptance(of: $0, line) }
      #expect(error is WebSocketConnectError)
    }
  }

  @Test("attack 26: names that other languages trip over are names like any other")
  func names() async throws {
    try await AttackedServer.run("pipe", "protocols=chat") { server in
      for fields in [
        ["__proto__: x", "constructor: y", "hasOwnProperty: z"],
        ["Sec-WebSocket-Protocol: __proto__, constructor, toString, chat"],
        ["Sec-WebSocket-Extensions: __proto__; constructor=1, toString"],
        // RFC 9110 §5.6.1.2: empty elements of a list are passed over.
        ["Sec-WebSocket-Protocol: ,chat,,"], ["Sec-WebSocket-Extensions: ,, ,"],
      ] {
        let attacker = try await server.connect()
        try await attacker.send(Attacker.handshake(adding: fields))
        let head = try await attacker.receiveHead()
        #expect(head.hasPrefix("HTTP/1.1 101 "), "\(fields)")
        #expect(head.contains("Sec-WebSocket-Protocol: chat\r\n") == fields[0].contains("chat"))
        #expect(!head.contains("Sec-WebSocket-Extensions"))
        attacker.socket.abort(CancellationError())
      }
    }
  }

  @Test(
    "attacks 26, 28, 29: what is no handshake gets its status and the end, and nothing behind it is read",
    arguments: HandshakeAttack.all)
  func refused(attack: HandshakeAttack) async throws {
    let server = try await InProcessServer.start()
    let attacker = try await server.connect()
    // Another request, which is right, in the same packet: it would be smuggled.
    try await attacker.send(attack.request + Attacker.handshake)
    let answer = await attacker.receiveAll()
    let text = String(decoding: answer.bytes, as: UTF8.self)
    #expect(text.hasPrefix("HTTP/1.1 \(attack.status) "))
    #expect(text.split(separator: "\r\nConnection: close").count == 2, "one answer")
    #expect(answer.end == .closed)
    if attack.status == 426 && attack.line == 29 { #expect(text.contains("\r\nSec-WebSocket-Version: 13, 8, 7\r\n")) }
    server.stop()
  }

  @Test(
    "attack 28: every head split at each byte, and byte by byte, gets the same answer", arguments: HandshakeAttack.all)
  func split(attack: HandshakeAttack) async throws {
    try await expectSameAnswerHoweverSplit(attack.request, status: attack.status)
  }

  @Test("attack 29: versions that are switched off are not spoken and not listed")
  func versions() async throws {
    var options = WebSocketServerOptions()
    options.versions = [.hybi13]
    let server = try await InProcessServer.start(options)
    for version in ["8", "7"] {
      let attacker = try await server.connect()
      try await attacker.send(Attacker.handshake.replacing("Version: 13", with: "Version: \(version)"))
      let answer = String(decoding: await attacker.receiveAll().bytes, as: UTF8.self)
      #expect(answer.hasPrefix("HTTP/1.1 426 "))
      #expect(answer.contains("\r\nSec-WebSocket-Version: 13\r\n"))
    }
    server.stop()
  }

  @Test("attack 30: bytes behind the handshake are the first frame, and a second request is no frame")
  func earlyBytes() async throws {
    try await AttackedServer.run { server in
      let early = try await server.connect()
      try await early.send(Array(Attacker.handshake.utf8) + frame(0x81, "early") + frame(0x88))
      #expect(try await early.receiveHead().hasPrefix("HTTP/1.1 101 "))
      #expect(await early.receiveAll().bytes == unmaskedFrame(0x81, "early") + unmaskedFrame(0x88))
      let twice = try await server.connect()
      try await twice.send(Attacker.handshake + Attacker.handshake)
      #expect(try await twice.receiveHead().hasPrefix("HTTP/1.1 101 "))
      #expect(await twice.receiveAll().bytes == close(1002))
    }
  }

  @Test("attack 33: handshakes of a byte now and then, and none at all, end at the time limit from accept")
  func slowHandshakes() async throws {
    try await AttackedServer.run("pipe", "handshakeMilliseconds=500") { server in
      let start = ContinuousClock.now
      let idle = try await server.connect()
      let slow = try await server.connect()
      let writing = Task {
        for byte in Attacker.handshake.utf8 {
          try await slow.send([byte])
          try await Task.sleep(for: .milliseconds(50))
        }
      }
      #expect(await idle.receiveAll().bytes == [])
      #expect(await slow.receiveAll().bytes == [])
      let time = ContinuousClock.now - start
      #expect(time > .milliseconds(450) && time < .seconds(30))
      await #expect(throws: (any Error).self) { try await writing.value }
    }
  }

  @Test("attack 33: a client gives up a server that answers a byte now and then, at its time limit")
  func slowServer() async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let serving = Task {
      let server = Attacker(socket: try #require(try await listener.read()))
      while true {
        try await server.send("H")
        try await Task.sleep(for: .milliseconds(20))
      }
    }
    var options = WebSocketClientOptions()
    options.timeout = .seconds(2)
    let final = options
    await #expect(throws: WebSocketConnectError.timeout(.seconds(2))) {
      try await WebSocket.connect("ws://127.0.0.1:\(listener.port)", options: final)
    }
    serving.cancel()
    listener.cancel()
  }

  @Test(
    "attack 35: no target makes the server dial elsewhere",
    arguments: [
      "http://127.0.0.1:PORT/", "//127.0.0.1:PORT/", "ws://127.0.0.1:PORT/", "127.0.0.1:PORT", "/../../x", "*", "/%00",
      "//",
    ])
  func targets(target: String) async throws {
    let elsewhere = try await TCP.listen("127.0.0.1", port: 0)
    let dialled = Task { try await elsewhere.read() != nil }
    try await AttackedServer.run { server in
      let attacker = try await server.connect()
      let named = target.replacing("PORT", with: "\(elsewhere.port)")
      try await attacker.send(Attacker.handshake.replacing("GET / ", with: "GET \(named) "))
      let head = try await attacker.receiveHead()
      #expect(head.hasPrefix("HTTP/1.1 101 ") || head.hasPrefix("HTTP/1.1 4"))
      attacker.socket.abort(CancellationError())
    }
    elsewhere.cancel()
    #expect(try await dialled.value == false)
  }
}
