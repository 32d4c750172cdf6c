import SluiceHTTP
import SluiceStreams
import Testing

@testable import SluiceClient

@Suite("SOCKS5 (RFC 1928, ATTACKS 40)")
struct SOCKS5Tests {
  private func origin(_ host: String, _ port: Int = 443) -> Origin { Origin(host: host, port: port, isSecure: true) }

  /// Feeds a proxy's words, cut into pieces.
  private func talk(
    to host: String = "example.com", credentials: String? = nil, _ words: [Bytes], size: Int = .max
  ) throws -> (sent: [Bytes], rest: Bytes?) {
    var socks = try SOCKS5(origin(host), credentials: credentials.flatMap(userInfo))
    var sent = [socks.greeting]
    for word in words {
      var rest = word
      while !rest.isEmpty {
        let piece = rest.prefix(size)
        rest = rest.dropFirst(piece.count)
        var step = try socks.consume(piece)
        while case .send(let bytes) = step {
          sent.append(bytes)
          step = try socks.consume(Bytes())
        }
        if case .connected(let behind) = step { return (sent, behind) }
      }
    }
    return (sent, nil)
  }

  @Test("a name is resolved by the proxy; an address is sent as one", arguments: [1, 2, .max])
  func requests(size: Int) throws {
    let opened: Bytes = [5, 0, 0, 1, 127, 0, 0, 1, 0, 80]
    var talked = try talk([[5, 0], opened], size: size)
    #expect(talked.sent[0] == [5, 1, 0])
    #expect(talked.sent[1] == Bytes([5, 1, 0, 3, 11] + Array("example.com".utf8) + [0x01, 0xBB]))
    #expect(talked.rest == "")
    talked = try talk(to: "192.0.2.1", [[5, 0], opened], size: size)
    #expect(talked.sent[1] == [5, 1, 0, 1, 192, 0, 2, 1, 0x01, 0xBB])
    talked = try talk(
      to: "2001:db8::1", [[5, 0], Bytes([5, 0, 0, 4] + [UInt8](repeating: 0, count: 18))], size: size)
    #expect(talked.sent[1].count == 22 && talked.sent[1][3] == 4)
    #expect(talked.rest == "")
  }

  @Test("user and password (RFC 1929)", arguments: [1, .max])
  func credentials(size: Int) throws {
    let talked = try talk(credentials: "ann:se:cret", [[5, 2], [1, 0], [5, 0, 0, 3, 1, 0x78, 0, 80]], size: size)
    #expect(talked.sent[0] == [5, 2, 0, 2])
    #expect(talked.sent[1] == Bytes([1, 3] + Array("ann".utf8) + [7] + Array("se:cret".utf8)))
    #expect(talked.rest == "")
    #expect(throws: SOCKSError.wrongCredentials) { try talk(credentials: "ann:wrong", [[5, 2], [1, 1]], size: size) }
  }

  @Test("what a proxy does wrong, byte by byte and at once", arguments: [1, .max])
  func wrong(size: Int) {
    #expect(throws: SOCKSError.wrongVersion(4)) { try talk([[4, 0]], size: size) }
    #expect(throws: SOCKSError.noMethod(0xFF)) { try talk([[5, 0xFF]], size: size) }
    #expect(throws: SOCKSError.noMethod(2)) { try talk([[5, 2]], size: size) }
    #expect(throws: SOCKSError.noMethod(1)) { try talk([[5, 1]], size: size) }
    #expect(throws: SOCKSError.wrongVersion(4)) { try talk([[5, 0], [4, 0, 0, 1]], size: size) }
    #expect(throws: SOCKSError.refused(5)) { try talk([[5, 0], [5, 5, 0, 1, 0, 0, 0, 0, 0, 0]], size: size) }
    #expect(throws: SOCKSError.wrongAddressType(9)) {
      try talk([[5, 0], [5, 0, 0, 9, 0, 0, 0, 0, 0, 0]], size: size)
    }
    #expect(throws: Never.self) {
      // A reply that is cut off opens nothing.
      let talked = try talk([[5, 0], [5, 0, 0, 3, 255, 1, 2, 3]], size: size)
      #expect(talked.rest == nil)
    }
  }

  @Test("what came behind the reply is the origin's", arguments: [Int.max])
  func earlyBytes(size: Int) throws {
    let reply: [UInt8] = [5, 0, 0, 1, 127, 0, 0, 1, 0, 80]
    #expect(try talk([[5, 0], Bytes(reply + Array("220 mail".utf8))], size: size).rest == "220 mail")
  }

  @Test(
    "a port that is none is refused, never wrapped; so is a host with a NUL", arguments: [0, -1, 65_536, 65_558, .max])
  func invalidOrigins(port: Int) throws {
    #expect(throws: SOCKSError.invalidPort(port)) { try SOCKS5(origin("example.com", port), credentials: nil) }
    #expect(throws: SOCKSError.invalidHost) { try SOCKS5(origin("evil.example\0.example.com"), credentials: nil) }
  }

  private func userInfo(_ text: String) throws -> ConnectionURL.UserInfo? {
    try ConnectionURL("ws://\(text)@proxy").userInfo
  }

  @Test("a host of 255 bytes is sent, one of 256 is refused; so are credentials")
  func lengths() throws {
    let longest = String(repeating: "a", count: 255)
    #expect(try talk(to: longest, [[5, 0]]).sent[1].count == 262)
    #expect(throws: SOCKSError.tooLong("host name", byteCount: 256)) {
      try SOCKS5(origin(longest + "a"), credentials: nil)
    }
    #expect(throws: SOCKSError.self) { try SOCKS5(origin("x"), credentials: userInfo(longest + "a:b")) }
    #expect(throws: SOCKSError.self) { try SOCKS5(origin("x"), credentials: userInfo("a:")) }
  }
}
