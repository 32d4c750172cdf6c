import HTTPTypes
import SluiceStreams
import Testing

@testable import SluiceWebSocketProtocol

@Suite("Opening handshake (RFC 6455 §4)")
struct HandshakeTests {
  private var goodRequest: HTTPRequest {
    HTTPRequest(
      method: .get, scheme: "http", authority: "x", path: "/",
      headerFields: [
        .upgrade: "websocket", .connection: "keep-alive, Upgrade", .secWebSocketKey: "dGhlIHNhbXBsZSBub25jZQ==",
        .secWebSocketVersion: "13",
      ])
  }

  private func answer(
    _ request: HTTPRequest, protocols: [String] = [], isHTTP11: Bool = true, hasBody: Bool = false
  ) throws -> ServerHandshake.Agreement {
    try ServerHandshake(protocols: protocols).answer(request, isHTTP11: isHTTP11, hasBody: hasBody)
  }

  private func status(_ change: (inout HTTPRequest) -> Void) -> Int? {
    var request = goodRequest
    change(&request)
    do {
      _ = try answer(request)
      return nil
    } catch {
      return (error as? HandshakeRejection)?.status
    }
  }

  @Test("the RFC's own example (§1.3)")
  func example() throws {
    #expect(try answer(goodRequest).fields[.secWebSocketAccept] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
  }

  @Test(
    "SHA-1 of RFC 3174 §7.3",
    arguments: [
      ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
      ("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "84983e441c3bd26ebaae4aa1f95129e5e54670f1"),
      ("", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
    ])
  func sha1(text: String, expected: String) {
    let digest = SHA1.digest(text.utf8).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    #expect(digest == expected)
  }

  @Test(
    "Base64 of RFC 4648 §10",
    arguments: [
      ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
    ])
  func base64(text: String, expected: String) {
    #expect(Base64.encode(text.utf8) == expected)
    #expect(Base64.decode(expected.utf8) == Array(text.utf8))
  }

  @Test("requests that are no handshake get the right status (ATTACKS 28, 29)")
  func rejections() throws {
    #expect(status { _ in } == nil)
    #expect(status { $0.method = .post } == 405)
    #expect(status { $0.headerFields[.upgrade] = nil } == 426)
    #expect(status { $0.headerFields[.upgrade] = "h2c" } == 426)
    #expect(status { $0.headerFields[.connection] = "close" } == 400)
    #expect(status { $0.headerFields[.secWebSocketVersion] = "12" } == 426)
    #expect(status { $0.headerFields[.secWebSocketKey] = nil } == 400)
    #expect(status { $0.headerFields[.secWebSocketKey] = "c2hvcnQ=" } == 400)
    #expect(status { $0.headerFields[.secWebSocketKey] = "dGhlIHNhbXBsZSBub25jZQ!!" } == 400)
    #expect(
      status { $0.headerFields.append(HTTPField(name: .secWebSocketKey, value: "dGhlIHNhbXBsZSBub25jZQ==")) } == 400)
    #expect(status { $0.headerFields[.secWebSocketProtocol] = "a, a" } == 400)
    #expect(status { $0.headerFields[.secWebSocketProtocol] = "a b" } == 400)
    #expect(throws: HandshakeRejection.self) { try answer(goodRequest, isHTTP11: false) }
    #expect(throws: HandshakeRejection.self) { try answer(goodRequest, hasBody: true) }
  }

  @Test(
    "attack 52: what Unicode takes for a token of the handshake is another one",
    arguments: [
      "websoc\u{212A}et", "websocket\u{301}", "websocket\u{A0}", "\u{85}websocket", "x\u{301}, \u{FEFF}websocket",
    ])
  func tokensAreBytes(upgrade: String) throws {
    #expect(status { $0.headerFields[.upgrade] = "x\u{301},\tWebSocKet" } == nil)
    #expect(status { $0.headerFields[.upgrade] = "x,\u{301}, websocket" } == nil)
    #expect(status { $0.headerFields[.upgrade] = upgrade } == 426)
    #expect(status { $0.headerFields[.connection] = "upgrade\u{301}" } == 400)
    #expect(status { $0.headerFields[.secWebSocketVersion] = "1\u{0663}" } == 426)
    #expect(status { $0.headerFields[.secWebSocketProtocol] = "\u{212A}" } == 400)
    #expect(status { $0.headerFields[.secWebSocketExtensions] = "permessage-deflate\u{37E} x" } == 400)
  }

  @Test("attack 52: the client compares the server's words as bytes")
  func answersAreBytes() throws {
    let key = try #require(HandshakeKey("dGhlIHNhbXBsZSBub25jZQ=="))
    let handshake = try ClientHandshake(protocols: ["K"], key: key)
    let accept = key.accept
    let looksLikeIt = accept.replacing("K", with: "\u{212A}")
    func check(_ accept: String, _ chosen: String) throws {
      _ = try handshake.check(
        HTTPResponse(
          status: .switchingProtocols,
          headerFields: [
            .upgrade: "websocket", .connection: "upgrade", .secWebSocketAccept: accept, .secWebSocketProtocol: chosen,
          ]))
    }
    try check(accept, "K")
    #expect(throws: ClientHandshakeError.unexpectedSubprotocol("\u{212A}")) { try check(accept, "\u{212A}") }
    #expect(looksLikeIt == accept)
    #expect(throws: ClientHandshakeError.wrongAccept) { try check(looksLikeIt, "K") }
  }

  @Test("the server's first subprotocol that the client offers")
  func subprotocols() throws {
    var request = goodRequest
    request.headerFields[.secWebSocketProtocol] = "chat.v1, , chat.v2"
    #expect(try answer(request, protocols: ["chat.v2", "chat.v1"]).subprotocol == "chat.v2")
    #expect(try answer(request, protocols: ["other"]).subprotocol == nil)
  }

  @Test("a response that does not agree is a distinct error (ATTACKS 31)")
  func client() throws {
    let key = try #require(HandshakeKey("dGhlIHNhbXBsZSBub25jZQ=="))
    let handshake = try ClientHandshake(protocols: ["a", "b"], key: key)
    func check(_ status: Int = 101, _ change: (inout HTTPFields) -> Void = { _ in }) throws -> String? {
      var fields: HTTPFields = [
        .upgrade: "WebSocket", .connection: "upgrade", .secWebSocketAccept: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
      ]
      change(&fields)
      return try handshake.check(HTTPResponse(status: .init(code: status), headerFields: fields)).subprotocol
    }
    #expect(try check() == nil)
    #expect(try check { $0[.secWebSocketProtocol] = "b" } == "b")
    #expect(throws: ClientHandshakeError.missingUpgrade) { try check { $0[.upgrade] = nil } }
    #expect(throws: ClientHandshakeError.missingConnection) { try check { $0[.connection] = nil } }
    #expect(throws: ClientHandshakeError.wrongAccept) { try check { $0[.secWebSocketAccept] = "x" } }
    #expect(throws: ClientHandshakeError.unexpectedSubprotocol("c")) { try check { $0[.secWebSocketProtocol] = "c" } }
    #expect(throws: ClientHandshakeError.unexpectedExtension("x")) { try check { $0[.secWebSocketExtensions] = "x" } }
    #expect(throws: ClientHandshakeError.self) { try check(403) }
    #expect(throws: SubprotocolError.notAToken) { try ClientHandshake(protocols: ["a\r\nb"]) }
    #expect(throws: SubprotocolError.duplicate("a")) { try ClientHandshake(protocols: ["a", "a"]) }
  }

  @Test("long lists take linear time (ATTACKS 25)", .timeLimit(.minutes(1)))
  func longLists() {
    #expect(status { $0.headerFields[.secWebSocketProtocol] = String(repeating: "a,", count: 100_000) } == 400)
    #expect(status { $0.headerFields[.secWebSocketProtocol] = String(repeating: " ", count: 100_000) } == nil)
    #expect(
      status { $0.headerFields[.secWebSocketProtocol] = "a" + String(repeating: " ", count: 100_000) + "b" } == 400)
  }
}
