import SluiceStreams
import Testing

@testable import SluiceHTTP

@Suite("Limits of heads and origins, at their last good value and their first bad one")
struct LimitTests {
  private func read(_ text: String, pieceSize: Int, _ limits: HeadLimits) throws -> RequestHead? {
    var reader = HeadReader(.request, limits: limits)
    var rest = Bytes(text)
    while !rest.isEmpty {
      let piece = rest.prefix(pieceSize)
      rest = rest.dropFirst(piece.count)
      if let (head, _) = try reader.consume(piece) { return try RequestHead(head, limits: limits) }
    }
    return nil
  }

  @Test("bytes of a head, with the empty line at its end", arguments: [1, 7, 1000])
  func headBytes(pieceSize: Int) throws {
    let head = "GET /path HTTP/1.1\r\nHost: h\r\nA: some value\r\n\r\n"
    let count = head.utf8.count
    #expect(try read(head, pieceSize: pieceSize, HeadLimits(maxHeadBytes: count)) != nil)
    #expect(throws: HTTPHeadError.headTooLong(limit: count - 1)) {
      try read(head, pieceSize: pieceSize, HeadLimits(maxHeadBytes: count - 1))
    }
  }

  @Test("bytes of a request line alone", arguments: [1, 1000])
  func requestLine(pieceSize: Int) throws {
    let line = "GET /path HTTP/1.1"
    let count = line.utf8.count
    #expect(try read(line, pieceSize: pieceSize, HeadLimits(maxHeadBytes: count)) == nil)
    #expect(throws: HTTPHeadError.requestLineTooLong(limit: count - 1)) {
      try read(line, pieceSize: pieceSize, HeadLimits(maxHeadBytes: count - 1))
    }
  }

  @Test("empty lines before a head count as bytes of it")
  func emptyLines() throws {
    let lines = String(repeating: "\r\n", count: 10)
    #expect(try read(lines, pieceSize: 3, HeadLimits(maxHeadBytes: 20)) == nil)
    #expect(throws: HTTPHeadError.headTooLong(limit: 19)) {
      try read(lines, pieceSize: 3, HeadLimits(maxHeadBytes: 19))
    }
  }

  @Test("fields of a head, its Host among them")
  func fieldCount() throws {
    let head = "GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: 2\r\n\r\n"
    #expect(try read(head, pieceSize: 1000, HeadLimits(maxFieldCount: 3)) != nil)
    #expect(throws: HTTPHeadError.tooManyFields(limit: 2)) {
      try read(head, pieceSize: 1000, HeadLimits(maxFieldCount: 2))
    }
  }

  @Test(
    "a wildcard stands for every host below, and for nothing else",
    arguments: [
      ("https://a.example.com", true), ("https://a.b.example.com", true), ("https://A.EXAMPLE.com:443", true),
      ("https://example.com", false), ("https://.example.com", false), ("https://aexample.com", false),
      ("https://a.example.com.evil.test", false), ("http://a.example.com", false), ("https://a.example.com:444", false),
      ("https://a.example.org", false), ("null", false),
    ])
  func wildcard(origin: String, isAllowed: Bool) {
    #expect(OriginPolicy.only("https://*.example.com").allows([origin], host: "example.com") == isAllowed)
  }

  @Test("trailer fields and bytes of a chunked body")
  func trailer() throws {
    func decode(_ trailer: String, _ limits: HeadLimits) throws {
      var decoder = ChunkedDecoder(limits: limits)
      var output = TransformOutput<Bytes>()
      try decoder.transform(Bytes("0\r\n" + trailer + "\r\n"), into: &output)
      #expect(output.hasEnded)
    }
    let two = "A: 1\r\nB: 2\r\n"
    try decode(two, HeadLimits(maxFieldCount: 2))
    #expect(throws: ChunkedBodyError.invalidTrailer(.tooManyFields(limit: 1))) {
      try decode(two, HeadLimits(maxFieldCount: 1))
    }
    try decode(two, HeadLimits(maxHeadBytes: two.utf8.count + 2))
    #expect(throws: ChunkedBodyError.invalidTrailer(.headTooLong(limit: two.utf8.count + 1))) {
      try decode(two, HeadLimits(maxHeadBytes: two.utf8.count + 1))
    }
  }
}
