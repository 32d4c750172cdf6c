import HTTPTypes
import Sluice
import SluiceHTTP
import Testing

@testable import SluiceWebSocketProtocol

@Suite("Attacks 27, 31, 41-43: what a client is told, and what it sends", .timeLimit(.minutes(5)))
struct ClientAttackTests {
  @Test(
    "attack 27: CR, LF and NUL in what the caller gives throw before anything is sent",
    arguments: ["\r", "\n", "\u{0}", "\r\nX-Evil: 1"])
  func injection(text: String) async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let connected = Task { try await listener.read() != nil }
    let url = "ws://127.0.0.1:\(listener.port)"
    await #expect(throws: URLError.self) { try await WebSocket.connect(url + "/a\(text)b") }
    await #expect(throws: URLError.self) { try await WebSocket.connect(url + "/?a\(text)b") }
    await #expect(throws: URLError.self) { try await WebSocket.connect("ws://127.0.0.1\(text):\(listener.port)/") }
    await #expect(throws: URLError.self) {
      try await WebSocket.connect("ws://us\(text)er:pass@127.0.0.1:\(listener.port)/")
    }
    await #expect(throws: SubprotocolError.self) { try await WebSocket.connect(url, protocols: ["a\(text)b"]) }
    for headers in [["X-Name": "a\(text)b"], ["X\(text)Name": "b"]] as [Headers] {
      var options = WebSocketClientOptions()
      options.headers = headers
      let final = options
      await #expect(throws: HTTPFieldError.self) { try await WebSocket.connect(url, options: final) }
    }
    var offering = WebSocketClientOptions()
    offering.extensions = [Offering(text: text)]
    let final = offering
    await #expect(throws: ExtensionOfferError.self) { try await WebSocket.connect(url, options: final) }
    listener.cancel()
    #expect(try await connected.value == false, "nothing was connected to")
  }

  private struct Offering: WebSocketExtension {
    let text: String
    let name = "x"
    let reservedBits = ReservedBits.rsv2
    func offers() -> [ExtensionParameters] { [ExtensionParameters("x", ["a": "b\(text)"])] }
    func answer(_ offers: [ExtensionParameters]) -> ExtensionAnswer? { nil }
    func accept(_ answer: ExtensionParameters) throws -> any ExtensionSession { throw CancellationError() }
  }

  @Test(
    "attack 27: fields of a server's that can't be sent are a 500, and no field of the attacker's",
    arguments: ["\r", "\n", "\u{0}", "\r\nX-Evil: 1"])
  func serverInjection(text: String) async throws {
    var options = WebSocketServerOptions()
    options.onRequest = { _ in ["X-Name": "a\(text)b"] }
    let server = try await InProcessServer.start(options)
    let (attacker, head) = try await server.open()
    #expect(head.hasPrefix("HTTP/1.1 500 "))
    #expect(!head.contains("X-Evil") && !head.contains("X-Name"))
    attacker.socket.abort(CancellationError())
    server.stop()
    var rejecting = WebSocketServerOptions()
    rejecting.onRequest = { _ in
      throw RequestRejection(status: 403, reason: "no\(text)", fields: [.init("X-Name")!: "a\(text)b"])
    }
    let refusing = try await InProcessServer.start(rejecting)
    let refused = try await refusing.open()
    #expect(!refused.head.contains("\nX-Evil"))
    refused.attacker.socket.abort(CancellationError())
    refusing.stop()
  }

  @Test("attack 31: each wrong answer to a handshake is an error of its own")
  func wrongAnswers() async throws {
    func error(protocols: [String] = [], _ answer: @escaping @Sendable (String) -> String) async throws
      -> ClientHandshakeError?
    {
      guard
        case .handshake(let error)? = try await errorOfConnecting(protocols: protocols, answer: answer)
          as? WebSocketConnectError
      else { return nil }
      return error
    }
    #expect(try await error { acceptance(of: $0, without: "Upgrade") } == .missingUpgrade)
    #expect(try await error { acceptance(of: $0, without: "Upgrade", "Upgrade: h2c") } == .missingUpgrade)
    #expect(try await error { acceptance(of: $0, without: "Connection") } == .missingConnection)
    #expect(try await error { acceptance(of: $0, without: "Sec-WebSocket-Accept") } == .wrongAccept)
    #expect(
      try await error {
        acceptance(of: $0, without: "Sec-WebSocket-Accept", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
      }
        == .wrongAccept)
    #expect(
      try await error { acceptance(of: $0, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") } == .wrongAccept)
    #expect(try await error { acceptance(of: $0, "Sec-WebSocket-Protocol: x") } == .unexpectedSubprotocol("x"))
    #expect(
      try await error(protocols: ["a"]) { acceptance(of: $0, "Sec-WebSocket-Protocol: A") }
        == .unexpectedSubprotocol("A"))
    #expect(
      try await error { acceptance(of: $0, "Sec-WebSocket-Extensions: permessage-deflate") }
        == .unexpectedExtension("permessage-deflate"))
    #expect(try await error { acceptance(of: $0, "Sec-WebSocket-Extensions: a; b=\"") } == .malformedExtensions)
    for status in [200, 204, 301, 302, 400, 401, 403, 404, 407, 426, 429, 500, 503] {
      let refusal = try await error { _ in
        "HTTP/1.1 \(status) Some Reason\r\nX-Why: so\r\nContent-Length: 5\r\n\r\nhello"
      }
      guard case .refused(status, let headers, let bodyStart)? = refusal else {
        Issue.record("\(status): \(String(describing: refusal))")
        continue
      }
      // RFC 9110 §15.3.5: a 204 has no body.
      #expect(headers[.init("X-Why")!] == "so" && bodyStart == (status == 204 ? "" : "hello"))
    }
  }

  @Test("attack 31: interim responses before the 101 are passed over; endless ones are not")
  func interim() async throws {
    #expect(
      try await errorOfConnecting {
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + acceptance(of: $0)
      } == nil)
    let endless = try await errorOfConnecting { _ in
      String(repeating: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", count: 10_000)
    }
    #expect((endless as? WebSocketConnectError).map { if case .malformedResponse = $0 { true } else { false } } == true)
  }

  @Test(
    "attack 31: what is no HTTP response is malformed",
    arguments: [
      "SSH-2.0-OpenSSH_9.2\r\n\r\n", "HTTP/1.1 1O1 Switching Protocols\r\n\r\n", "HTTP/1.1 101\nUpgrade: websocket\n\n",
      "HTTP/1.1 101 Switching Protocols\r\n Upgrade: websocket\r\n\r\n", "HTTP/2.0 101 x\r\n\r\n",
      "\r\n\r\n",
      "HTTP/1.1 101 Switching Protocols\r\n" + String(repeating: "A: b\r\n", count: 101) + "\r\n",
      "HTTP/1.1 101 Switching Protocols\r\nA: " + String(repeating: "b", count: 20_000) + "\r\n\r\n",
    ])
  func malformed(answer: String) async throws {
    let error = try await errorOfConnecting { _ in answer }
    #expect(
      (error as? WebSocketConnectError).map { if case .malformedResponse = $0 { true } else { false } } == true,
      "\(String(describing: error))")
  }

  @Test("attack 31: a server that ends the connection instead of answering")
  func noAnswer() async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let serving = Task {
      let server = Attacker(socket: try #require(try await listener.read()))
      _ = try await server.receiveHead()
      try await server.send("HTTP/1.1 101 Swi")
      try await server.socket.close()
    }
    await #expect(throws: WebSocketConnectError.endedEarly) {
      try await WebSocket.connect("ws://127.0.0.1:\(listener.port)")
    }
    try await serving.value
    listener.cancel()
  }

  @Test("attack 41: 2^20 masking keys are as different as chance makes them, and bits are even")
  func maskingKeys() {
    var source = MaskingKeySource()
    let count = 1 << 20
    var seen = Set<UInt32>(minimumCapacity: count)
    var ones = [Int](repeating: 0, count: 32)
    var previous: UInt32 = 0
    var repeatsInARow = 0
    for _ in 0..<count {
      let word = source.next().word
      seen.insert(word)
      if word == previous { repeatsInARow += 1 }
      previous = word
      for bit in 0..<32 { ones[bit] += Int(word >> bit & 1) }
    }
    // Of 2^20 random numbers of 32 bits 128 are expected to come a second time; with 300 it is no chance.
    #expect(count - seen.count < 300)
    #expect(repeatsInARow < 3)
    // Each bit is one in half of them, give or take 6 deviations of 512.
    for bit in ones { #expect(abs(bit - count / 2) < 6 * 512) }
  }

  @Test(
    "attack 41: the frames of a client each have a key of their own on the wire, of one message sent many times too")
  func keysOnTheWire() async throws {
    let message = Message("the same bytes every time")
    let count = 10_000
    try await withClient(
      of: { server in
        var keys = Set<[UInt8]>()
        for _ in 0..<count {
          let frame = try await server.receive(6 + 25)
          #expect(unmasked(frame) == Array("the same bytes every time".utf8))
          keys.insert(Array(frame[2..<6]))
        }
        #expect(keys.count > count - 5)
        #expect(unmasked(try await server.receive(8)) == bigEndian(UInt16(1000)))
        try await server.send(close(1000))
        try await server.socket.close()
      },
      runs: { ws in
        for _ in 0..<count { try await ws.send(message) }
        try await ws.close(.normal)
      },
      answers: { _ in
      })
  }

  @Test("attack 42: errors and logs hold neither credentials nor payloads")
  func secrets() async throws {
    let secret = "hunter2-do-not-tell"
    let records = LogRecords()
    var options = WebSocketClientOptions()
    options.headers = ["X-Token": "Bearer \(secret)", "Cookie": "session=\(secret)"]
    options.connection.maxMessageSize = 1000
    func check(_ error: (any Error)?) {
      #expect(error != nil)
      #expect(!"\(String(describing: error))".contains(secret))
    }
    let final = options
    // Refused, malformed, and not there.
    check(try await errorOfConnecting(options: final) { _ in "HTTP/1.1 401 Unauthorized\r\n\r\n" })
    check(try await errorOfConnecting(options: final) { _ in "HTTP/1.1 101 x\r\nSet-Cookie: \(secret)\u{0}\r\n\r\n" })
    check(
      try await errorOfConnecting(options: final) { _ in "HTTP/1.1 101 x\r\nSec-WebSocket-Accept: \(secret)\r\n\r\n" })
    await check(
      errorOf { _ = try await WebSocket.connect("ws://user:\(secret)@127.0.0.1:1/?token=\(secret)", options: final) })
    var bad = final
    bad.headers = ["X-Token": "Bearer \(secret)\r\n"]
    let broken = bad
    await check(errorOf { _ = try await WebSocket.connect("ws://127.0.0.1:1", options: broken) })
    await check(errorOf { _ = try await WebSocket.connect("ws://user:\(secret)@127.0.0.1:1/\n") })
    // A server's log, at its most talkative.
    var serving = WebSocketServerOptions()
    serving.connection.maxMessageSize = 100
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0", options: serving)
    let running = Task {
      try await server.run(logger: records.logger) { ws in
        for try await message in ws {
          if message.text.hasPrefix("throw") { throw StreamError.aborted }
          try await ws.send(message)
        }
      }
    }
    for payload in ["throw \(secret)", String(repeating: secret, count: 100)] {
      let ws = try await WebSocket.connect(
        "ws://user:\(secret)@127.0.0.1:\(server.port)/?token=\(secret)", options: final)
      try await ws.send(payload)
      await check(errorOf { while try await ws.read() != nil {} })
    }
    let attacker = Attacker(socket: try await TCP.connect("127.0.0.1", port: server.port))
    try await attacker.send(Array(Attacker.handshake.utf8) + frame(0x81, Array(secret.utf8) + [0xFF]))
    _ = await attacker.receiveAll()
    running.cancel()
    _ = try? await running.value
    #expect(!records.all.isEmpty)
    for record in records.all { #expect(!record.contains(secret)) }
  }

  private func errorOf(_ body: () async throws -> Void) async -> (any Error)? {
    do {
      try await body()
      return nil
    } catch {
      return error
    }
  }
}
