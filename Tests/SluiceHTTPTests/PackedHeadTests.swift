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
    ])
  func roundTrip(text: String) {
    #expect(PackedHead(Bytes(text)).head.string == text)
  }
}
