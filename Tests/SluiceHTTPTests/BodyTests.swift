import HTTPTypes
import SluiceStreams
import Testing

@testable import SluiceHTTP

@Suite("Bodies (RFC 9112 §6, §7)")
struct BodyTests {
  private func decode<Decoder: Transform<Bytes, Bytes>>(
    _ decoder: Decoder, _ text: String, size: Int
  ) throws -> String {
    var decoder = decoder
    var output = TransformOutput<Bytes>()
    var rest = Bytes(text)
    while !rest.isEmpty && !output.hasEnded {
      try decoder.transform(rest.prefix(size), into: &output)
      rest = rest.dropFirst(size)
    }
    if !output.hasEnded { try decoder.finish(into: &output) }
    var result = ""
    while let bytes = output.popFirst() { result += bytes.string }
    return result
  }

  @Test("a chunked body, however it is cut", arguments: [1, 2, 3, .max])
  func chunked(size: Int) throws {
    let decoder = ChunkedDecoder()
    #expect(try decode(decoder, "5\r\nhello\r\n0\r\n\r\n", size: size) == "hello")
    #expect(
      try decode(decoder, "5;a=b\r\nhello\r\nB ; c\r\n, and world\r\n000\r\nX: y\r\nZ:\r\n\r\n", size: size)
        == "hello, and world")
    #expect(try decode(decoder, "0\r\n\r\nbehind", size: size) == "")
    #expect(try decode(decoder, "1\r\n\n\r\n0\r\n\r\n", size: size) == "\n")
  }

  @Test(
    "a chunked body that is none is refused",
    arguments: [
      "x\r\n", "\r\n", "-5\r\nhello\r\n", "+5\r\n", "0x5\r\n", "5\nhello", "5\r\nhello!\r\n", "5\r\nhello\n",
      "FFFFFFFFFFFFFFFFF\r\n",
      "7FFFFFFFFFFFFFFFF\r\n", "5\r\nhel", "5\r\nhello\r\n", "0\r\n", "0\r\nX: y\n\n", " 5\r\nhello\r\n", "5;a\nhello",
    ], [1, .max])
  func malformed(_ text: String, size: Int) {
    #expect(throws: ChunkedBodyError.self) { try decode(ChunkedDecoder(), text, size: size) }
  }

  @Test(
    "extensions are names, with a token or a quoted string as their value (RFC 9112 §7.1.1)",
    arguments: [
      ";a", ";a=b", ";a=\"\"", ";a=\"b;\\\"c\\\\ \t\u{E9}\"", " ;\ta \t=  b ; c", ";a=b;c=\"d\" ;e",
      ";!#$%&'*+-.^_`|~=1",
    ], [1, .max])
  func extensions(_ text: String, size: Int) throws {
    #expect(try decode(ChunkedDecoder(), "1\(text)\r\nx\r\n0\(text)\r\n\r\nbehind", size: size) == "x")
  }

  @Test(
    "attack 53: what two readers could end in two places is refused",
    arguments: [
      "1 ", "1\t", " 1", "1;", "1; ", "1;a ", "1;a=", "1;a= ", "1;=b", "1;;a", "1;a=b ", "1;a=\"b", "1;a=\"b\\\"",
      "1;a=\"b\"c",
      "1;a=b=c", "1;a\u{0}", "1;a=\"\u{1}\"", "1;a=\"\\\u{7F}\"", "1;a=\"\u{B}\"", "1;a\u{A0}", "1;\u{212A}", "1;a b",
      "1,a",
      "1:a", "\u{661}", "0x1", "1h", "1.", "-1", "+1", "1;a=\"\r\n\"",
    ], [1, .max])
  func unreadable(_ line: String, size: Int) {
    for text in ["\(line)\r\nx\r\n0\r\n\r\n", "1\r\nx\r\n\(line.replacing("1", with: "0"))\r\n\r\n"] {
      #expect(throws: ChunkedBodyError.self) { try decode(ChunkedDecoder(), text, size: size) }
    }
  }

  @Test(
    "attack 53: a trailer is fields",
    arguments: [
      "x", ": x", "a b: c", "a : c", "\u{212A}: c", " a: c", "a: b\r\n c", "a: \u{0}", "a: \u{7F}", "a\n", "a: b\n",
      "a: b\rc",
      "a: b\r\r",
    ], [1, .max])
  func trailers(_ line: String, size: Int) throws {
    #expect(try decode(ChunkedDecoder(), "0\r\na: b\r\n\r\n", size: size) == "")
    #expect(throws: ChunkedBodyError.self) { try decode(ChunkedDecoder(), "0\r\n\(line)\r\n\r\n", size: size) }
    #expect(throws: ChunkedBodyError.self) { try decode(ChunkedDecoder(), "0\r\na: b\r\n\(line)\r\n\r\n", size: size) }
  }

  @Test("a trailer has the limits of a head")
  func trailerLimits() throws {
    let limits = HeadLimits(maxHeadBytes: 100, maxFieldCount: 3)
    let decoder = ChunkedDecoder(limits: limits)
    #expect(try decode(decoder, "0\r\na: 1\r\na: 2\r\na: 3\r\n\r\n", size: 7) == "")
    #expect(throws: ChunkedBodyError.invalidTrailer(.tooManyFields(limit: 3))) {
      try decode(decoder, "0\r\na: 1\r\na: 2\r\na: 3\r\na: 4\r\n\r\n", size: 7)
    }
    #expect(throws: ChunkedBodyError.invalidTrailer(.headTooLong(limit: 100))) {
      try decode(decoder, "0\r\na: \(String(repeating: "x", count: 100))\r\n\r\n", size: 7)
    }
  }

  @Test(
    "attack 53: all framing of a body has a limit together, beyond what its data are worth",
    arguments: [
      // One line; many lines; many digits.
      "1;a=" + String(repeating: "x", count: 20_000),
      String(repeating: "1;a=\(String(repeating: "x", count: 100))\r\nx\r\n", count: 1000),
      String(repeating: "0", count: 20_000),
    ])
  func framingLimit(_ text: String) throws {
    #expect(throws: ChunkedBodyError.tooMuchFraming(limit: 16 << 10)) { try decode(ChunkedDecoder(), text, size: 1000) }
  }

  @Test("chunks of one byte, and extensions beside much data, are within the limit")
  func smallChunks() throws {
    let small = String(repeating: "1\r\nx\r\n", count: 100_000) + "0\r\n\r\n"
    #expect(try decode(ChunkedDecoder(), small, size: 1000).utf8.count == 100_000)
    let signature =
      "400;chunk-signature=\(String(repeating: "f", count: 64))\r\n\(String(repeating: "x", count: 1024))\r\n"
    let signed = String(repeating: signature, count: 1000) + "0\r\n\r\n"
    #expect(try decode(ChunkedDecoder(), signed, size: 1000).utf8.count == 1_024_000)
  }

  @Test("a body of a length ends there, and is not to end before", arguments: [1, .max])
  func length(size: Int) throws {
    #expect(try decode(LengthDecoder(5), "hello, world", size: size) == "hello")
    #expect(throws: StreamError.self) { try decode(LengthDecoder(5), "hell", size: size) }
  }

  @Test(
    "a response's length may be repeated if it is the same, and lists have empty elements (RFC 9112 §6.3, RFC 9110 §5.6.1)",
    arguments: [
      (["5"], [], .length(5)), (["5", "5"], [], .length(5)), (["5, 5"], [], .length(5)),
      (["5,\t5 ", "5"], [], .length(5)),
      ([], ["chunked"], .chunked), ([], [", chunked\t,", ""], .chunked),
      ([], ["gzip", "chunked"], .coded("gzip, chunked", isChunked: true)), ([], [], .unspecified),
      (["5", "6"], [], nil), (["5, 05"], [], nil), (["5,"], [], nil), (["+5"], [], nil), (["-1"], [], nil),
      ([""], [], nil),
      (["99999999999999999999"], [], nil), (["5"], ["chunked"], nil), ([], [","], nil),
    ] as [([String], [String], BodyFraming?)])
  func responses(lengths: [String], codings: [String], framing: BodyFraming?) {
    var fields = HTTPFields()
    fields[values: .contentLength] = lengths
    fields[values: .transferEncoding] = codings
    #expect((try? BodyFraming(ofResponse: fields)) == framing)
    // Of a request none of that is taken.
    if lengths.count + codings.count > 1 || lengths.contains(where: { $0.contains(",") }) {
      #expect((try? BodyFraming(fields)) != .length(5))
    }
  }
}
