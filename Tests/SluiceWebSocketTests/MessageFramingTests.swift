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

  @Test("a header of 4096 bytes is the longest, with the empty line at its end", arguments: [1, 1000, 10_000])
  func contentLengthHeader(size: Int) async throws {
    func text(_ count: Int) -> String {
      "Content-Length: 1\r\nX: " + String(repeating: "x", count: count - 26) + "\r\n\r\na"
    }
    #expect(text(4096).utf8.count == 4097)
    #expect(try await messages(text(4096), .contentLength, cut: size) == ["a"])
    await #expect(throws: StreamError.self) { try await messages(text(4097), .contentLength, cut: size) }
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
    // The same without a separator behind it.
    #expect(try await messages("abcde", .separated(by: "--"), cut: size, limit: 5) == ["abcde"])
    await #expect(throws: StreamError.limitExceeded(what: "a separated message", limit: 5, actual: 6)) {
      try await messages("abcdef", .separated(by: "--"), cut: size, limit: 5)
    }
    let many = String(repeating: "x||", count: 500)
    #expect(try await messages(many, .separated(by: "||"), cut: 10_000) == [Bytes](repeating: "x", count: 500))
  }

  /// The same cut at every byte: whole, in two, and byte by byte.
  private func outcomes(_ text: String, _ framing: MessageFraming, limit: Int) async -> Set<String> {
    let bytes = Bytes(text)
    var cuts: [[Bytes]] = [[bytes], bytes.map { Bytes([$0]) }]
    for place in 1..<bytes.count { cuts.append([bytes.prefix(place), bytes.dropFirst(place)]) }
    var found: Set<String> = []
    for cut in cuts {
      do {
        let decoded = SequenceStream(cut).pipe(through: MessageDecoder(framing, kind: .text, limit: limit))
        found.insert("\(try await decoded.collect(limit: 1000).map(\.bytes.count))")
      } catch StreamError.limitExceeded(let what, _, _) { found.insert(what) } catch { found.insert("\(error)") }
    }
    return found
  }

  @Test("a separated message may be as long as its limit, and no longer, with a separator behind it or without")
  func separatedLimit() async {
    for end in ["", "-", "--"] {
      // A separator that was begun and not ended belongs to the message.
      let partial = end == "-" ? 1 : 0
      #expect(await outcomes("a--bcdef" + end, .separated(by: "--"), limit: 5 + partial) == ["[1, \(5 + partial)]"])
      #expect(await outcomes("a--bcdef" + end, .separated(by: "--"), limit: 4 + partial) == ["a separated message"])
    }
    // What looks like the beginning of a separator, and is none.
    #expect(await outcomes("aXaXaY", .separated(by: "aXaY"), limit: 2) == ["[2]"])
    #expect(await outcomes("aXaXaY", .separated(by: "aXaY"), limit: 1) == ["a separated message"])
    #expect(await outcomes("aXaXa", .separated(by: "aXaY"), limit: 5) == ["[5]"])
    #expect(await outcomes("aXaXa", .separated(by: "aXaY"), limit: 4) == ["a separated message"])
  }

  @Test("a header of a message may have 4,096 bytes, and no more", arguments: ["\n", "\r\n"])
  func headerLimit(lineEnd: String) async throws {
    let end = lineEnd + lineEnd
    let length = "Content-Length: 1" + lineEnd
    let padding = ContentLengthDecoder.headerLimit - length.utf8.count - end.utf8.count - 2
    let header = length + "X:" + String(repeating: "y", count: padding)
    // Where it may matter, not at each of 4,096 places.
    for size in [1, 2, 4095, 4096, 4097, 8000] {
      func messages(_ text: String) async throws -> [Bytes] { try await self.messages(text, .contentLength, cut: size) }
      #expect(try await messages(header + end + "a") == ["a"], "pieces of \(size)")
      for text in [header + "z" + end + "a", header + "z" + end, header + String(repeating: "z", count: 5)] {
        await #expect(
          throws: StreamError.limitExceeded(what: "a message's header", limit: 4096, actual: 4097), "pieces of \(size)"
        ) { try await messages(text) }
      }
    }
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
