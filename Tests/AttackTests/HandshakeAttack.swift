import Testing

/// A request that opens no WebSocket, and the status that it is answered with.
struct HandshakeAttack: Sendable, CustomTestStringConvertible {
  let line: Int
  let name: String
  let request: String
  let status: Int

  var testDescription: String { "\(line): \(name)" }

  /// The good request with changes: fields are replaced by name, or taken out where the value is nil.
  private init(
    _ line: Int, _ name: String, start: String = "GET / HTTP/1.1", _ changes: KeyValuePairs<String, String?> = [:],
    adding more: [String] = [], status: Int
  ) {
    var fields = [
      "Host: test", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
      "Sec-WebSocket-Version: 13",
    ]
    for (field, value) in changes {
      fields.removeAll { $0.hasPrefix(field + ":") }
      if let value { fields.append("\(field): \(value)") }
    }
    self.line = line
    self.name = name
    request = ([start] + fields + more).map { $0 + "\r\n" }.joined() + "\r\n"
    self.status = status
  }

  private init(_ line: Int, _ name: String, literally request: String, status: Int) {
    self.line = line
    self.name = name
    self.request = request
    self.status = status
  }

  static let all: [HandshakeAttack] = names + missing + duplicates + keys + requests + bodies + lineEnds + versions

  private static let names = [
    HandshakeAttack(26, "an empty field name", adding: [": x"], status: 400),
    HandshakeAttack(26, "a field without a colon", adding: ["x"], status: 400),
    HandshakeAttack(26, "a field name with a space", adding: ["X : y"], status: 400),
    HandshakeAttack(26, "a duplicate subprotocol", ["Sec-WebSocket-Protocol": "a, b, a"], status: 400),
    HandshakeAttack(
      26, "a subprotocol in two fields", ["Sec-WebSocket-Protocol": "a"], adding: ["Sec-WebSocket-Protocol: a"],
      status: 400),
    HandshakeAttack(26, "a subprotocol that is no token", ["Sec-WebSocket-Protocol": "a b"], status: 400),
    HandshakeAttack(26, "an extension without a name", ["Sec-WebSocket-Extensions": "; a=b"], status: 400),
    HandshakeAttack(26, "an extension parameter without a name", ["Sec-WebSocket-Extensions": "a; =b"], status: 400),
    HandshakeAttack(26, "an extension parameter without its value", ["Sec-WebSocket-Extensions": "a; b="], status: 400),
    HandshakeAttack(26, "an unclosed quote", ["Sec-WebSocket-Extensions": "a; b=\"c"], status: 400),
    HandshakeAttack(26, "a quoted value that is no token", ["Sec-WebSocket-Extensions": "a; b=\"c d\""], status: 400),
    HandshakeAttack(26, "extensions without a comma", ["Sec-WebSocket-Extensions": "a b"], status: 400),
  ]

  private static let missing = [
    HandshakeAttack(28, "no Host", ["Host": nil], status: 400),
    HandshakeAttack(28, "no Upgrade", ["Upgrade": nil], status: 426),
    HandshakeAttack(28, "another Upgrade", ["Upgrade": "h2c"], status: 426),
    HandshakeAttack(28, "no Connection", ["Connection": nil], status: 400),
    HandshakeAttack(28, "another Connection", ["Connection": "keep-alive"], status: 400),
    HandshakeAttack(28, "no key", ["Sec-WebSocket-Key": nil], status: 400),
    HandshakeAttack(28, "no version, but a key", ["Sec-WebSocket-Version": nil], status: 426),
  ]

  private static let duplicates = [
    HandshakeAttack(28, "two Hosts", adding: ["Host: test"], status: 400),
    HandshakeAttack(28, "two keys", adding: ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="], status: 400),
    HandshakeAttack(28, "two versions", adding: ["Sec-WebSocket-Version: 13"], status: 426),
  ]

  private static let keys = [
    "", "c2hvcnQ=", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSE=", "dGhlIHNhbXBsZSBub25jZQ=!", "=====",
  ]
  .map { HandshakeAttack(28, "the key '\($0 ?? "")'", ["Sec-WebSocket-Key": $0], status: 400) }

  private static let requests = [
    HandshakeAttack(28, "HTTP/1.0", start: "GET / HTTP/1.0", status: 505),
    HandshakeAttack(28, "HTTP/2.0", start: "GET / HTTP/2.0", status: 505),
    HandshakeAttack(28, "HTTP/1.10", start: "GET / HTTP/1.10", status: 400),
    HandshakeAttack(28, "POST", start: "POST / HTTP/1.1", status: 405),
    HandshakeAttack(28, "get", start: "get / HTTP/1.1", status: 405),
    HandshakeAttack(28, "no target", start: "GET HTTP/1.1", status: 400),
    HandshakeAttack(28, "two spaces", start: "GET  / HTTP/1.1", status: 400),
    HandshakeAttack(28, "a control character in the target", start: "GET /\u{1} HTTP/1.1", status: 400),
    HandshakeAttack(28, "the preface of HTTP/2", literally: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status: 505),
  ]

  private static let bodies = [
    HandshakeAttack(28, "a body", adding: ["Content-Length: 5"], status: 400),
    HandshakeAttack(28, "a chunked body", adding: ["Transfer-Encoding: chunked"], status: 400),
    HandshakeAttack(28, "two lengths", adding: ["Content-Length: 0", "Transfer-Encoding: chunked"], status: 400),
    HandshakeAttack(28, "two Content-Lengths", adding: ["Content-Length: 0", "Content-Length: 5"], status: 400),
    HandshakeAttack(
      28, "two equal Content-Lengths", adding: ["Content-Length: 38", "Content-Length: 38"], status: 400),
    HandshakeAttack(28, "two Content-Lengths of 0", adding: ["Content-Length: 0", "Content-Length: 0"], status: 400),
    HandshakeAttack(28, "a list of equal Content-Lengths", adding: ["Content-Length: 38, 38"], status: 400),
    HandshakeAttack(28, "a Content-Length of +0", adding: ["Content-Length: +0"], status: 400),
    HandshakeAttack(28, "a Content-Length beyond any", adding: ["Content-Length: 99999999999999999999"], status: 400),
  ]

  private static let lineEnds = [
    HandshakeAttack(28, "a folded field", adding: ["X: a", " b"], status: 400),
    HandshakeAttack(28, "a folded field with a tab", adding: ["X: a", "\tb"], status: 400),
    HandshakeAttack(28, "a NUL in a value", adding: ["X: a\u{0}b"], status: 400),
    HandshakeAttack(28, "a lone CR in a value", adding: ["X: a\rb"], status: 400),
    HandshakeAttack(28, "lone LFs", literally: "GET / HTTP/1.1\nHost: test\n\n", status: 400),
    HandshakeAttack(28, "one lone LF", adding: ["X: a\nY: b"], status: 400),
  ]

  private static let versions = ["12", "14", "0", "-1", "013", "13, 8", "999999999999999999999", "x", ""].map {
    HandshakeAttack(29, "version '\($0 ?? "")'", ["Sec-WebSocket-Version": $0], status: 426)
  }
}
