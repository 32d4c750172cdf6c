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
      try decode(decoder, "5;a=b\r\nhello\r\nB \r\n, and world\r\n000\r\nX: y\r\nZ: w\r\n\r\n", size: size)
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

  @Test("lines of a chunked body have a limit", arguments: ["1;", "0\r\nX: "])
  func limits(_ start: String) {
    #expect(throws: ChunkedBodyError.lineTooLong(limit: 4096)) {
      try decode(ChunkedDecoder(), start + String(repeating: "x", count: 100_000), size: 1000)
    }
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
      ([], ["chunked"], .coded("chunked")), ([], [", chunked\t,", ""], .coded("chunked")),
      ([], ["gzip", "chunked"], .coded("gzip, chunked")), ([], [], .unspecified),
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
