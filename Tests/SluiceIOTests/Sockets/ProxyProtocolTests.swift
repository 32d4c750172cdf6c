import SluiceStreams
import Testing

@testable import SluiceIO

@Suite("The PROXY protocol")
struct ProxyProtocolTests {
  private static let signature: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]

  private func parse(_ text: String) throws -> ProxyProtocol.Header? { try ProxyProtocol.parse(Array(text.utf8)) }

  @Test("version 1, and nothing before its end has come")
  func version1() throws {
    let line = "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"
    for count in 0..<line.utf8.count { #expect(try parse(String(line.prefix(count))) == nil || count == line.count) }
    #expect(try parse(line + "GET /") == .init(source: IPAddress("192.0.2.1"), length: line.utf8.count))
    #expect(try parse("PROXY TCP6 2001:db8::1 ::1 1 2\r\n")?.source == IPAddress("2001:db8::1"))
    #expect(try parse("PROXY UNKNOWN\r\n") == .init(source: nil, length: 15))
    #expect(try parse("PROXY UNKNOWN whatever there is\r\n")?.source == nil)
  }

  @Test(
    "what is none, or malformed, is refused",
    arguments: [
      "GET / HTTP/1.1\r\n", "PROXX", "\r\n\r\n\u{0}\r\nQUIX", "PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n",
      "PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
      "PROXY TCP4 192.0.2.1 192.0.2.2 1 99999\r\n",
      "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
      "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
      "PROXY TCP4 192.0.2.1\u{301} 192.0.2.2 1 2\r\n", "PROXY TCP4 192.0.2.1 \u{301}192.0.2.2 1 2\r\n",
      "PROXY TCP4 192.0.2.1 192.0.2.2 1 \u{0662}\r\n", "PROXY TCP4\t192.0.2.1 192.0.2.2 1 2\r\n",
      "PROXY TCP4 192.0.2.1\0 192.0.2.2 1 2\r\n", "PROXY TCP6 fe80::1%lo ::1 1 2\r\n", "PROXY UN\u{212A}NOWN\r\n",
      "PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n", "PROXY TCP4 192.0.2.1 2001:db8::1 1 2\r\n", "PROXY \r\n",
      "PROXY UNKNOWN " + String(repeating: "x", count: 200),
    ])
  func malformed(_ text: String) { #expect(throws: ProxyProtocolError.self) { try parse(text) } }

  @Test("a line of 107 bytes is the longest, and one that has come so far without its end is none")
  func longestLine() throws {
    func line(_ count: Int) -> String { "PROXY UNKNOWN " + String(repeating: "x", count: count - 16) + "\r\n" }
    #expect(try parse(line(107)) == .init(source: nil, length: 107))
    #expect(throws: ProxyProtocolError.self) { try parse(line(108)) }
    #expect(try parse(String(line(200).prefix(106))) == nil)
    #expect(throws: ProxyProtocolError.self) { try parse(String(line(200).prefix(107))) }
  }

  @Test("4096 bytes of addresses and extensions are the most")
  func longestBody() throws {
    let largest = Self.signature + [0x21, 0x00, 0x10, 0x00]
    #expect(try ProxyProtocol.parse(largest) == nil)
    #expect(try ProxyProtocol.parse(largest + [UInt8](repeating: 0, count: 4095)) == nil)
    #expect(
      try ProxyProtocol.parse(largest + [UInt8](repeating: 0, count: 4096)) == .init(source: nil, length: 16 + 4096))
    #expect(throws: ProxyProtocolError.self) { try ProxyProtocol.parse(Self.signature + [0x21, 0x00, 0x10, 0x01]) }
  }

  @Test("version 2: IPv4, IPv6, the balancer's own connections, and extensions that are passed over")
  func version2() throws {
    let v4: [UInt8] = Self.signature + [0x21, 0x11, 0, 15, 192, 0, 2, 1, 192, 0, 2, 2, 0, 1, 0, 2, 9, 9, 9]
    for count in 0..<v4.count { #expect(try ProxyProtocol.parse(Array(v4.prefix(count))) == nil) }
    #expect(try ProxyProtocol.parse(v4 + [1, 2, 3]) == .init(source: IPAddress("192.0.2.1"), length: v4.count))
    let v6 =
      Self.signature + [0x21, 0x21, 0, 36, 0x20, 0x01, 0x0D, 0xB8] + [UInt8](repeating: 0, count: 11) + [1]
      + [UInt8](repeating: 0, count: 20)
    #expect(try ProxyProtocol.parse(v6)?.source == IPAddress("2001:db8::1"))
    #expect(try ProxyProtocol.parse(Self.signature + [0x20, 0, 0, 0]) == .init(source: nil, length: 16))
    #expect(try ProxyProtocol.parse(Self.signature + [0x21, 0, 0, 0])?.source == nil)
    for wrong in [
      [0x11, 0x11, 0, 12], [0x22, 0x11, 0, 0], [0x21, 0x11, 0, 4, 1, 2, 3, 4], [0x21, 0x11, 0xFF, 0xFF],
    ] as [[UInt8]] {
      #expect(throws: ProxyProtocolError.self) { try ProxyProtocol.parse(Self.signature + wrong) }
    }
  }
}
