import HTTPTypes
import SluiceStreams
import Testing

@testable import SluiceHTTP

@Suite("Request and response heads (RFC 9112)")
struct HeadTests {
  private func read(_ bytes: Bytes, pieceSize: Int = .max, limits: HeadLimits = HeadLimits()) throws -> (Bytes, Bytes)?
  {
    var reader = HeadReader(.request, limits: limits)
    var rest = bytes
    while !rest.isEmpty {
      let piece = rest.prefix(pieceSize)
      rest = rest.dropFirst(piece.count)
      if let (head, behind) = try reader.consume(piece) {
        var builder = BytesBuilder()
        builder.append(behind)
        builder.append(rest)
        return (head, builder.take())
      }
    }
    return nil
  }

  private func request(_ text: String) throws -> RequestHead {
    let (head, _) = try #require(try read(Bytes(text)))
    return try RequestHead(head)
  }

  @Test("a head is found however it is cut, and what follows is kept (ATTACKS 30)", arguments: [1, 2, 3, 7, 1000])
  func cut(size: Int) throws {
    let text = "GET /a?b HTTP/1.1\r\nHost: x\r\nA: 1\r\n\r\nframes"
    let (head, rest) = try #require(try read(Bytes(text), pieceSize: size))
    #expect(rest == "frames")
    let parsed = try RequestHead(head)
    #expect(parsed.request.path == "/a?b")
    #expect(parsed.request.authority == "x")
    #expect(parsed.isHTTP11)
  }

  @Test(
    "malformed heads are refused with their status (ATTACKS 26, 28)",
    arguments: [
      ("GET / HTTP/1.1\nHost: x\r\n\r\n", HTTPHeadError.bareLineEnd, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\rA: 1\r\n\r\n", .bareLineEnd, 400),
      ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", .malformedRequestLine, 400),
      ("G@T / HTTP/1.1\r\nHost: x\r\n\r\n", .malformedRequestLine, 400),
      ("GET /\u{1} HTTP/1.1\r\nHost: x\r\n\r\n", .invalidTarget, 400),
      ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", .unsupportedVersion, 505),
      ("GET / HTTP/0.9\r\nHost: x\r\n\r\n", .unsupportedVersion, 505),
      ("GET / HTTP/1\r\nHost: x\r\n\r\n", .malformedRequestLine, 400),
      ("GET / HTTP/1.10\r\nHost: x\r\n\r\n", .malformedRequestLine, 400),
      ("GET / http/1.1\r\nHost: x\r\n\r\n", .malformedRequestLine, 400),
      ("GET / HTTP/1.\u{661}\r\nHost: x\r\n\r\n", .malformedRequestLine, 400),
      ("GET / FTP/1.1\r\nHost: x\r\n\r\n", .malformedRequestLine, 400),
      ("GET /\r\n\r\n", .malformedRequestLine, 400),
      ("GET /#x HTTP/1.1\r\nHost: x\r\n\r\n", .invalidTarget, 400),
      ("GET /%4 HTTP/1.1\r\nHost: x\r\n\r\n", .invalidTarget, 400),
      ("GET /%4g?x HTTP/1.1\r\nHost: x\r\n\r\n", .invalidTarget, 400),
      ("GET http://x/% HTTP/1.1\r\nHost: x\r\n\r\n", .invalidTarget, 400),
      ("\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", .bareLineEnd, 400),
      ("\rGET / HTTP/1.1\r\nHost: x\r\n\r\n", .bareLineEnd, 400),
      ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", .ambiguousLength, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", .ambiguousLength, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", .ambiguousLength, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", .ambiguousLength, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked;a=b\r\n\r\n", .ambiguousLength, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chun\u{212A}ed\r\n\r\n", .ambiguousLength, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\u{301}\r\n\r\n", .ambiguousLength, 400),
      (
        "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \u{B}chunked\r\n\r\n",
        .invalidFieldValue(name: "Transfer-Encoding"), 400
      ),
      ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n\r\n", .ambiguousLength, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: ,\r\n\r\n", .ambiguousLength, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: \u{661}\r\n\r\n", .ambiguousLength, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\u{301}\r\n\r\n", .ambiguousLength, 400),
      ("GET / HTTP/1.1\r\n\r\n", .missingHost, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", .duplicateField(name: "Host"), 400),
      ("GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", .foldedField, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\n: empty\r\n\r\n", .invalidFieldName, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nA : 1\r\n\r\n", .invalidFieldName, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nA: \u{0}\r\n\r\n", .invalidFieldValue(name: "A"), 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", .ambiguousLength, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", .ambiguousLength, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", .ambiguousLength, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n", .ambiguousLength, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", .ambiguousLength, 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", .ambiguousLength, 400),
    ])
  func malformed(text: String, expected: HTTPHeadError, status: Int) throws {
    #expect(throws: expected) { try request(text) }
    #expect(expected.status == status)
  }

  @Test(
    "Host is a host and perhaps a port, and nothing else (RFC 9112 §3.2)",
    arguments: [
      ("a", true), ("a:80", true), ("a:", true), ("", true), ("[::1]", true), ("[::1]:8080", true), ("a_b.c-d", true),
      ("a b", false), ("a/b", false), ("u@a", false), ("a b/c@d", false), ("a:x", false), ("a:1:2", false),
      (":80", false),
      ("[::1", false), ("[]", false), ("[::1]x", false), ("a?b", false), ("a#b", false), ("a,b", true), ("a\\b", false),
    ])
  func hosts(host: String, isValid: Bool) throws {
    if isValid {
      #expect(try request("GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n").request.authority == host)
    } else {
      #expect(throws: HTTPHeadError.invalidHost) { try request("GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n") }
    }
  }

  @Test(
    "a target is a path, or a URL that says whose it is (RFC 9112 §3.2.1, §3.2.2)",
    arguments: [
      ("/a?b", "h", "/a?b"), ("//x/y", "h", "//x/y"), ("http://x/y?z", "x", "/y?z"), ("HTTPS://x:1", "x:1", "/"),
      ("ws://[::1]?q", "[::1]", "/?q"), ("http://u:p@x/", nil, ""), ("http:///y", nil, ""), ("http://x:y/", nil, ""),
      ("x:443", nil, ""), ("*", nil, ""), ("a", nil, ""), ("ftp://x/", nil, ""), ("?a", nil, ""),
    ] as [(String, String?, String)])
  func targets(target: String, authority: String?, path: String) throws {
    let text = "GET \(target) HTTP/1.1\r\nHost: h\r\n\r\n"
    guard let authority else {
      #expect(throws: HTTPHeadError.invalidTarget) { try request(text) }
      return
    }
    let parsed = try request(text).request
    #expect(parsed.authority == authority && parsed.path == path)
  }

  @Test("OPTIONS may ask for the server itself, CONNECT asks for a host")
  func otherTargets() throws {
    #expect(try request("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").request.path == "*")
    #expect(try request("CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n").request.path == "x:443")
    #expect(throws: HTTPHeadError.invalidTarget) { try request("CONNECT /x HTTP/1.1\r\nHost: h\r\n\r\n") }
  }

  @Test("how a body is framed is said once for all: in chunks alone, or with codings before them (RFC 9112 §6.1, §7)")
  func transferCodings() throws {
    func framing(_ lines: String) throws -> BodyFraming {
      try request("POST / HTTP/1.1\r\nHost: x\r\n\(lines)\r\n").body
    }
    #expect(try framing("Transfer-Encoding: Chunked\r\n") == .chunked)
    #expect(try framing("Transfer-Encoding: ,\t, chunked ,\r\n") == .chunked)
    #expect(try framing("Transfer-Encoding: gzip, chunked\r\n") == .coded("gzip, chunked", isChunked: true))
    #expect(
      try framing("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n")
        == .coded("gzip, chunked", isChunked: true))
    #expect(try framing("Content-Length: 0012\r\n") == .length(12))
  }

  @Test("a higher minor version is read as HTTP/1.1 (RFC 9110 §2.5)")
  func minorVersions() throws {
    #expect(try request("GET / HTTP/1.2\r\nHost: x\r\n\r\n").isHTTP11)
    #expect(try request("GET / HTTP/1.9\r\nHost: x\r\n\r\n").isHTTP11)
    #expect(try !request("GET / HTTP/1.0\r\n\r\n").isHTTP11)
  }

  @Test(
    "empty lines before a request are passed over, however they are cut, and count among its bytes",
    arguments: [1, 2, 3, .max])
  func emptyLines(size: Int) throws {
    let text = "\r\n\r\n\r\nGET /x HTTP/1.1\r\nHost: x\r\n\r\nrest"
    let (head, rest) = try #require(try read(Bytes(text), pieceSize: size))
    #expect(try RequestHead(head).request.path == "/x")
    #expect(rest == "rest")
    #expect(throws: HTTPHeadError.headTooLong(limit: 100)) {
      _ = try read(Bytes(String(repeating: "\r\n", count: 51)), pieceSize: size, limits: HeadLimits(maxHeadBytes: 100))
    }
  }

  @Test("a request line that does not end is 414, fields that do not are 431 (RFC 9112 §3)")
  func tooLong() {
    let limits = HeadLimits(maxHeadBytes: 100)
    let long = String(repeating: "x", count: 100)
    #expect(throws: HTTPHeadError.requestLineTooLong(limit: 100)) {
      _ = try read(Bytes("GET /\(long)"), limits: limits)
    }
    #expect(throws: HTTPHeadError.headTooLong(limit: 100)) {
      _ = try read(Bytes("GET / HTTP/1.1\r\nA: \(long)"), limits: limits)
    }
    #expect(HTTPHeadError.requestLineTooLong(limit: 1).status == 414)
    #expect(HTTPHeadError.headTooLong(limit: 1).status == 431)
  }

  @Test(
    "attack 54: a path has one spelling",
    arguments: [
      ("/", "/"), ("/a/b.c", "/a/b.c"), ("/%70rivate/x", "/private/x"), ("/%7e%7E~", "/~~~"), ("/a%2fb", "/a%2Fb"),
      ("/a%2Fb%5c", "/a%2Fb%5C"), ("/%2e/a", "/a"), ("/a/%2e%2E/b", "/b"), ("/./a/.", "/a/"), ("/a/..", "/"),
      ("/../../a", "/a"), ("/a/b/../../../c", "/c"), ("/a//b", "/a//b"), ("//a", "//a"), ("/a//../b", "/a/b"),
      ("/...", "/..."),
      ("/.a/..b", "/.a/..b"), ("/a;x=1/b", "/a;x=1/b"), ("/a%3bx", "/a;x"), ("/a!b%21", "/a!b!"), ("/a%20b", "/a%20b"),
      ("/a|b%7C", "/a%7Cb%7C"), ("/%c3%a9", "/%C3%A9"), ("/%00", "/%00"), ("/%25%32%66", "/%252f"),
      ("/%3f%23", "/%3F%23"),
      ("/a\\b", "/a%5Cb"), ("/..%2fa", "/..%2Fa"), ("/a?%70/../x", "/a?%70/../x"), ("/%2e?q", "/?q"),
      ("http://x/%70/./y", "/p/y"), ("http://x", "/"),
    ])
  func paths(target: String, path: String) throws {
    #expect(try request("GET \(target) HTTP/1.1\r\nHost: x\r\n\r\n").request.path == path)
    // And stays what it is.
    if path.utf8.first == UInt8(ascii: "/") {
      #expect(try request("GET \(path) HTTP/1.1\r\nHost: x\r\n\r\n").request.path == path)
    }
  }

  @Test("one empty line before a request is passed over (RFC 9112 §2.2)")
  func emptyLine() throws {
    #expect(try request("\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n").request.path == "/a")
    #expect(try read("\r\n\r\n").map { $0.0 } == nil)
  }

  @Test("limits: bytes and fields (ATTACKS 24)")
  func limits() throws {
    let limits = HeadLimits(maxHeadBytes: 100, maxFieldCount: 3)
    #expect(throws: HTTPHeadError.headTooLong(limit: 100)) {
      try read(Bytes("GET / HTTP/1.1\r\nA: " + String(repeating: "x", count: 200)), pieceSize: 10, limits: limits)
    }
    let (head, _) = try #require(try read("GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 1\r\nC: 1\r\n\r\n", limits: limits))
    #expect(throws: HTTPHeadError.tooManyFields(limit: 3)) { try RequestHead(head, limits: limits) }
    #expect(HTTPHeadError.headTooLong(limit: 1).status == 431)
  }

  @Test("more fields than HTTPFields can hold are refused whatever the limit is")
  func mostFields() throws {
    let limits = HeadLimits(maxHeadBytes: 1 << 20, maxFieldCount: 1_000_000)
    let text = "GET / HTTP/1.1\r\nHost: x\r\n" + String(repeating: "A: b\r\n", count: 65_535) + "\r\n"
    let (head, _) = try #require(try read(Bytes(text), limits: limits))
    #expect(throws: HTTPHeadError.tooManyFields(limit: 65_000)) { try RequestHead(head, limits: limits) }
  }

  @Test("a response's status line")
  func response() throws {
    func status(_ line: String) throws -> Int {
      let (head, _) = try #require(try read(Bytes("\(line)\r\nA: b\r\n\r\n")))
      return try ResponseHead(head).response.status.code
    }
    #expect(try status("HTTP/1.1 101 Switching Protocols") == 101)
    #expect(try status("HTTP/1.1 404") == 404)
    #expect(throws: HTTPHeadError.malformedStatusLine) { try status("HTTP/1.1 1x1 No") }
    #expect(throws: HTTPHeadError.malformedStatusLine) { try status("SSH-2.0-x") }
    #expect(throws: HTTPHeadError.unsupportedVersion) { try status("HTTP/3.0 200 OK") }
  }

  @Test(
    "CR, LF and NUL can't be written into a head (ATTACKS 27)",
    arguments: ["a\rb", "a\nb", "a\u{0}b", "a\u{7F}b"])
  func injection(text: String) throws {
    #expect(throws: HTTPFieldError.invalidValue(name: "X")) {
      var writer = HeadWriter("GET / HTTP/1.1")
      try writer.append("X", text)
    }
    #expect(throws: HTTPFieldError.invalidName(text)) {
      var writer = HeadWriter("GET / HTTP/1.1")
      try writer.append(text, "x")
    }
  }

  @Test("a field in several lines: one value in a response (RFC 9112 §5.2), refused in a request")
  func folded() throws {
    func fields(_ lines: String) throws -> HTTPFields {
      let (head, _) = try #require(try read(Bytes("HTTP/1.1 200 OK\r\n\(lines)\r\n\r\n")))
      return try ResponseHead(head).response.headerFields
    }
    #expect(try fields("Set-Cookie: a=b;\r\n Path=/")[.setCookie] == "a=b; Path=/")
    #expect(try fields("Via: 1.1 a, \r\n\t 1.1 b\r\n \r\n\t1.1 c\t\r\nA: d")[.via] == "1.1 a, 1.1 b  1.1 c")
    #expect(try fields("Via:\r\n x\r\nA: d")[HTTPField.Name("A")!] == "d")
    #expect(try fields("Content-Length:\r\n 5")[.contentLength] == "5")
    // Behind the status line there is no field that could go on.
    #expect(throws: HTTPHeadError.foldedField) { try fields(" A: b") }
    #expect(throws: HTTPHeadError.invalidFieldValue(name: "A")) { try fields("A: b\r\n \u{0}") }
    #expect(throws: HTTPHeadError.foldedField) { try request("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n") }
  }

  @Test("a Host of one's own: once, and an authority")
  func ownHost() throws {
    var headers: Headers = ["A": "b", "host": "other.example:81"]
    #expect(try headers.takeHost() == "other.example:81")
    #expect(headers.map(\.name) == ["A"])
    #expect(try headers.takeHost() == nil)
    for wrong in [["Host": "a/b"], ["Host": "a b"], ["Host": "u@a"], ["Host": ""], ["Host": "a\r\nX: y"]] as [Headers] {
      var wrong = wrong
      #expect(throws: HTTPFieldError.invalidHost) { try wrong.takeHost() }
    }
    var twice: Headers = ["Host": "a", "HOST": "a"]
    #expect(throws: HTTPFieldError.invalidHost) { try twice.takeHost() }
  }

  @Test(
    "a port without digits is the scheme's own (RFC 3986 §3.2.3); a host may be percent-encoded, and end with a dot")
  func lenientURLs() throws {
    #expect(try ConnectionURL("ws://h:/x").port == 80)
    #expect(try ConnectionURL("wss://[::1]:").port == 443)
    #expect(try ConnectionURL("ws://h:/x").description == "ws://h/x")
    #expect(try ConnectionURL("ws://%65xample.com").host == "example.com")
    #expect(try ConnectionURL("ws://example.com.").host == "example.com.")
  }

  @Test(
    "a host outside ASCII is refused with what to write instead",
    arguments: [
      ("müller.example", "xn--mller-kva.example"), ("MÜLLER.example", "xn--mller-kva.example"),
      ("m%C3%BCller.example", "xn--mller-kva.example"), ("bücher.例え", "xn--bcher-kva.xn--r8jz45g"),
      ("пример.испытание", "xn--e1afmkfd.xn--80akhbyknj4f"), ("u:p@müller.example:80", "xn--mller-kva.example"),
      // What takes IDNA's tables.
      ("mu\u{308}ller.example", "idn2"), ("straße.example", "idn2"), ("ｈ.example", "idn2"), ("h。example", "idn2"),
    ])
  func internationalHosts(host: String, word: String) throws {
    let error = #expect(throws: URLError.self) { try ConnectionURL("ws://\(host)/") }
    #expect(error?.description.contains(word) == true, "\(String(describing: error))")
  }

  @Test(
    "what is no host is none in whatever form it comes",
    arguments: ["%00", "a%00b", "a%20b", "a%2Fb", "a%0D%0Ab", "%", "%zz"])
  func badHosts(host: String) throws {
    #expect(throws: URLError.self) { try ConnectionURL("ws://\(host)/") }
  }

  @Test("URLs to connect to")
  func urls() throws {
    let url = try ConnectionURL("ws://us%65r:p%40ss@[::1]:8080/chat?x=1")
    #expect(url.host == "::1" && url.port == 8080 && url.target == "/chat?x=1")
    #expect(url.userInfo?.user == "user" && url.userInfo?.password == "p@ss")
    #expect(url.authority == "[::1]:8080")
    #expect(try ConnectionURL("ws://Example.com").description == "ws://Example.com/")
    #expect(try ConnectionURL("ws://example.com?x").target == "/?x")
    for bad in [
      "example.com", "http://example.com", "ws:/example.com", "ws://", "ws://h:0", "ws://h:65536", "ws://h:x",
      "ws://h:+1",
      "ws://[::1", "ws://[g]", "ws://h/#f", "ws://h/ x", "ws://h/\r\n", "ws://%zz@h", "ws://h^", "ws://:80",
      "ws://h:-1", "ws://h:４", "ws://h:99999999999999999999",
    ] {
      #expect(throws: URLError.self, "\(bad)") { try ConnectionURL(bad) }
    }
  }
}
