import SluiceStreams
import Testing

@testable import SluiceWebSocket

@Suite("Messages on streams of bytes")
struct MessageFramingTests {
  private func messages(_ text: String, _ framing: MessageFraming, cut size: Int, limit: Int = 1000) async throws
    -> [Bytes]
  {
    let decoded = SequenceStream([Bytes(text)]).chunks(of: size).pipe(
      through: MessageDecoder(framing, kind: .text, limit: limit))
    return try await decoded.collect(limit: 1000).map(\.bytes)
  }

  @Test("messages behind headers with their length, cut anywhere", arguments: [1, 2, 3, 7, 1000])
  func contentLength(size: Int) async throws {
    let text = "Content-Length: 5\r\n\r\nhelloX: y\r\nCONTENT-LENGTH:\t0 \r\n\r\nContent-Length: 2\n\nab\r\n"
    #expect(try await messages(text, .contentLength, cut: size) == ["hello", "", "ab"])
    await #expect(throws: StreamError.limitExceeded(what: "a message", limit: 4, actual: 5)) {
      try await messages(text, .contentLength, cut: size, limit: 4)
    }
    for header in [
      "X: 5\r\n\r\n", "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", "Content-Length: +1\r\n\r\n", "\r\n\r\n",
    ] {
      await #expect(throws: MessageFramingError.malformedHeader(message: 1)) {
        try await messages(header + "a", .contentLength, cut: size)
      }
    }
    await #expect(throws: StreamError.truncated(what: "a message", expected: 5, actual: 2)) {
      try await messages("Content-Length: 5\r\n\r\nhe", .contentLength, cut: size)
    }
  }

  @Test("separators of several bytes, cut anywhere", arguments: [1, 2, 3, 7, 1000])
  func separators(size: Int) async throws {
    for (text, expected) in [("a--b----c", ["a", "b", "", "c"]), ("a-b--", ["a-b"]), ("---", ["", "-"]), ("", [])]
      as [(String, [Bytes])]
    {
      #expect(try await messages(text, .separated(by: "--"), cut: size) == expected)
    }
    #expect(try await messages("aXaabXaab", .separated(by: "aab"), cut: size) == ["aX", "X"])
    await #expect(throws: StreamError.self) {
      try await messages("abcdef--", .separated(by: "--"), cut: size, limit: 5)
    }
    #expect(try await messages("abcde--", .separated(by: "--"), cut: size, limit: 5) == ["abcde"])
    let many = String(repeating: "x||", count: 500)
    #expect(try await messages(many, .separated(by: "||"), cut: 10_000) == [Bytes](repeating: "x", count: 500))
  }

  @Test(
    "lengths of 1, 2, 4 and 8 bytes in either order",
    arguments: [LengthPrefix.Width.one, .two, .four, .eight], [true, false])
  func lengths(width: LengthPrefix.Width, isLittleEndian: Bool) async throws {
    let prefix = LengthPrefix(width, isLittleEndian: isLittleEndian)
    let elements: [Bytes] = ["", "abc", Bytes([UInt8](repeating: 7, count: 200))]
    let encoded: Bytes = try await SequenceStream(elements).pipe(through: LengthPrefixEncoder(prefix)).collect(
      limit: 1000)
    var expected = [UInt8](repeating: 0, count: width.rawValue)
    expected[isLittleEndian ? 0 : width.rawValue - 1] = 3
    #expect(Array(encoded.dropFirst(width.rawValue).prefix(width.rawValue)) == expected)
    let decoded = SequenceStream([encoded]).chunks(of: 3).pipe(through: LengthPrefixDecoder(prefix))
    #expect(try await decoded.collect(limit: 9) == elements)
    if width == .one {
      await #expect(throws: StreamError.limitExceeded(what: "a length-prefixed element", limit: 255, actual: 256)) {
        try await SequenceStream([Bytes([UInt8](repeating: 0, count: 256))]).pipe(
          through: LengthPrefixEncoder(prefix)
        ).read()
      }
    }
  }
}
