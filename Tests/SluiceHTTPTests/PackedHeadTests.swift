import SluiceStreams
import Testing

@testable import SluiceHTTP

@Suite("Heads that are kept")
struct PackedHeadTests {
  @Test(
    "a head comes back as it was",
    arguments: [
      "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n",
      "GET /a?b HTTP/1.1\r\nHost: a\r\nupgrade: WebSocket\r\nConnection: keep-alive, Upgrade, x\r\n\r\n",
      "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nA:\t\u{e9}\r\nCookie: \r\n\r\n",
      // A key, one with other bits left over, one that is too long, and none.
      "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: AAECfwAAfwAAAAAAAAAAAA==\r\nA: b\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==dGhl\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: \r\n\r\n",
    ])
  func roundTrip(text: String) {
    #expect(PackedHead(Bytes(text)).head.string == text)
  }

  @Test("each phrase has a code of its own")
  func everyPhrase() {
    #expect(PackedHead.phrases.count <= PackedHead.codes.count)
    let text = PackedHead.phrases.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "x")
    #expect(PackedHead(Bytes(text)).head.string == text)
  }

  @Test(
    "a byte that stands for a phrase is in no head that is taken",
    arguments: PackedHead.codes + [0, PackedHead.keyCode])
  func refused(code: UInt8) {
    let character = String(UnicodeScalar(code))
    for line in ["GET /\(character) HTTP/1.1\r\nHost: a", "GET / HTTP/1.1\r\nHost: a\r\nA: \(character)"] {
      #expect(throws: HTTPHeadError.self) { try RequestHead(Bytes(line + "\r\n\r\n")) }
    }
    for line in [
      "HTTP/1.1 101 \(character)", "HTTP/1.1 101 OK\r\nA: \(character)", "HTTP/1.1 101 OK\r\nA\(character): b",
    ] {
      #expect(throws: HTTPHeadError.self) { try ResponseHead(Bytes(line + "\r\n\r\n")) }
    }
  }
}
