import Sluice
import Testing

/// A client of one version of the protocol, as literal bytes from its draft.
struct LiteralClient: Sendable, CustomTestStringConvertible {
  let version: String
  let handshake: String
  /// Bytes that follow the handshake's head.
  var body = ""
  let messages: [UInt8]
  /// What an echo server sends back, behind its head, to the end.
  let answer: [UInt8]
  /// A line that its head must have.
  let line: String

  /// faye-websocket has given up the drafts between.
  var isSpokenByFaye: Bool { version != "hybi-7" && version != "hybi-8" }

  var testDescription: String { version }

  private static let hello = Array("Hello".utf8)
  /// RFC 6455 §5.7 and the drafts' same section: a masked text frame of "Hello"; then a Close with 1000 and the key 0.
  private static let frames: [UInt8] =
    [0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58] + [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8]
  private static let framesBack = [0x81, 0x05] + hello + [0x88, 0x02, 0x03, 0xE8]

  private static func hybi(_ version: String, originField: String) -> LiteralClient {
    LiteralClient(
      version: "hybi-\(version)",
      handshake: """
        GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\(originField): http://server.example.com\r\n\
        Sec-WebSocket-Version: \(version)\r\n\r\n
        """,
      messages: frames, answer: framesBack, line: "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
  }

  static let all = [
    LiteralClient(
      version: "hixie-75",
      handshake: """
        GET /demo HTTP/1.1\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nHost: example.com\r\n\
        Origin: http://example.com\r\n\r\n
        """,
      messages: [0x00] + hello + [0xFF], answer: [0x00] + hello + [0xFF],
      line: "WebSocket-Location: ws://example.com/demo"),
    // draft-hixie-thewebsocketprotocol-76 §1.2.
    LiteralClient(
      version: "hixie-76",
      handshake: """
        GET /demo HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nSec-WebSocket-Key2: 12998 5 Y3 1  .P00\r\n\
        Upgrade: WebSocket\r\nSec-WebSocket-Key1: 4 @1  46546xW%0l 1 5\r\nOrigin: http://example.com\r\n\r\n
        """,
      body: "^n:ds[4U", messages: [0x00] + hello + [0xFF] + [0xFF, 0x00],
      answer: Array("8jKS'y:G*Co,Wxa-".utf8) + [0x00] + hello + [0xFF] + [0xFF, 0x00],
      line: "Sec-WebSocket-Location: ws://example.com/demo"),
    hybi("7", originField: "Sec-WebSocket-Origin"), hybi("8", originField: "Sec-WebSocket-Origin"),
    hybi("13", originField: "Origin"),
  ]

  /// Talks with a server as the version does. Returns the lines of its head, and what followed it.
  func talk(to port: Int) async throws -> (head: [String], rest: [UInt8]) {
    let socket = try await TCP.connect("127.0.0.1", port: port)
    try await socket.write(Bytes(handshake + body))
    var received: [UInt8] = []
    let end = Array("\r\n\r\n".utf8)
    func headEnd() -> Int? {
      received.indices.dropLast(3).first { received[$0..<$0 + 4].elementsEqual(end) }.map { $0 + 4 }
    }
    while headEnd() == nil, let chunk = try await socket.read() { received += Array(chunk) }
    try await socket.write(Bytes(messages))
    let start = headEnd() ?? received.count
    while received.count < start + answer.count, let chunk = try await socket.read() { received += Array(chunk) }
    socket.abort(CancellationError())
    let head = String(decoding: received[..<start], as: UTF8.self)
    return (head.split(separator: "\r\n").map(String.init), Array(received[start...]))
  }
}

@Suite("Versions of the protocol, with faye-websocket as the judge", .timeLimit(.minutes(2)))
struct VersionTests {
  @Test(
    "literal clients get the same from our server as from faye's, where that speaks the version",
    arguments: LiteralClient.all)
  func sameAsFaye(client: LiteralClient) async throws {
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    let running = Task {
      try await server.run { ws in
        #expect(ws.version == client.version)
        try await ws.pipe(ws)
      }
    }
    let ours = try await client.talk(to: server.port)
    running.cancel()
    _ = try? await running.value
    #expect(ours.head.first?.hasPrefix("HTTP/1.1 101 ") == true)
    #expect(ours.head.contains(client.line))
    #expect(ours.rest == client.answer)
    guard client.isSpokenByFaye else { return }
    try await Peer.faye.serving { url in
      let port = try #require(url.split(separator: ":").last.flatMap { Int($0) })
      let theirs = try await client.talk(to: port)
      #expect(theirs.head.contains(client.line))
      #expect(theirs.rest == client.answer)
    }
  }
}
