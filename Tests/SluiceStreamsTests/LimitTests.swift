import SluiceStreams
import Testing

@Suite("Limits of stages, at their last good value and their first bad one")
struct LimitTests {
  /// A text in pieces.
  private func source(_ text: String, pieceSize: Int) -> SequenceStream<Bytes> {
    let bytes = Array(text.utf8)
    return SequenceStream(
      stride(from: 0, to: bytes.count, by: pieceSize).map { start in
        Bytes(bytes[start..<Swift.min(start + pieceSize, bytes.count)])
      })
  }

  @Test("bytes of a line, without its end", arguments: [1, 3, 100])
  func lines(pieceSize: Int) async throws {
    let stream = source("12345\n1234\n", pieceSize: pieceSize)
    let lines: [String] = try await stream.pipe(through: LineDecoder(limit: 5)).collect(limit: 10)
    #expect(lines == ["12345", "1234"])
    let longer = source("123456\n", pieceSize: pieceSize).pipe(through: LineDecoder(limit: 5))
    await #expect(throws: StreamError.self) { try await longer.read() }
  }

  @Test("bytes of an element behind its length", arguments: [1, 3, 100])
  func lengthPrefix(pieceSize: Int) async throws {
    let stream = source("\0\0\0\u{5}12345", pieceSize: pieceSize)
    let elements: [Bytes] = try await stream.pipe(through: LengthPrefixDecoder(limit: 5)).collect(limit: 10)
    #expect(elements == ["12345"])
    let longer = source("\0\0\0\u{6}123456", pieceSize: pieceSize).pipe(through: LengthPrefixDecoder(limit: 5))
    await #expect(
      throws: StreamError.limitExceeded(what: "a length-prefixed element", limit: 5, actual: 6)
    ) { try await longer.read() }
  }

  @Test("what is collected", arguments: [1, 3, 100])
  func collected(pieceSize: Int) async throws {
    let bytes: Bytes = try await source("12345", pieceSize: pieceSize).collect(limit: 5)
    #expect(bytes == "12345")
    await #expect(throws: StreamError.self) {
      let _: Bytes = try await source("12345", pieceSize: pieceSize).collect(limit: 4)
    }
  }
}
