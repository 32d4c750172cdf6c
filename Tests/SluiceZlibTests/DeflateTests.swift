import SluiceStreams
import SluiceZlib
import Testing

@Suite("Deflate streams (RFC 1951)")
struct DeflateTests {
  private func text(_ count: Int) -> Bytes {
    var state: UInt32 = 7
    return Bytes(
      (0..<count).map { _ in
        state = state &* 1_664_525 &+ 1_013_904_223
        return UInt8(ascii: "a") + UInt8(state >> 28)
      })
  }

  /// Inflates all, in steps of `stepSize` bytes of output, from pieces of `pieceSize` bytes of input.
  private func inflate(
    _ input: Bytes, _ inflater: Inflater, pieceSize: Int = .max, stepSize: Int = 1 << 16
  ) -> Bytes? {
    var all = BytesBuilder()
    var rest = input
    while !rest.isEmpty {
      var piece = rest.prefix(pieceSize)
      rest = rest.dropFirst(piece.count)
      while true {
        var output = BytesBuilder(capacity: stepSize)
        guard let step = inflater.inflate(piece.span, to: &output, limit: stepSize) else { return nil }
        piece = piece.dropFirst(step.consumed)
        all.append(output.take())
        if !step.hasMore { break }
      }
    }
    return all.take()
  }

  @Test(
    "what is compressed is inflated to the same bytes, whatever the window and the steps",
    arguments: [8, 9, 12, 15], [(Int.max, 1 << 16), (1, 1 << 16), (.max, 3), (7, 100)])
  func roundTrip(windowBits: Int, sizes: (piece: Int, step: Int)) throws {
    let text = text(5000)
    let deflater = try #require(Deflater(DeflateSettings(windowBits: windowBits)))
    let inflater = try #require(Inflater(windowBits: windowBits))
    // The second message uses what is left of the first.
    for _ in 0..<2 {
      var compressed = BytesBuilder()
      deflater.compress(text.span, to: &compressed)
      let bytes = compressed.take()
      #expect(bytes.suffix(4) == [0, 0, 0xFF, 0xFF])
      #expect(inflate(bytes, inflater, pieceSize: sizes.piece, stepSize: sizes.step) == text)
      #expect(inflater.isBetweenBlocks)
    }
  }

  @Test("after `reset` nothing refers to what was before")
  func reset() throws {
    let text = text(300)
    let deflater = try #require(Deflater(DeflateSettings(windowBits: 15)))
    var first = BytesBuilder()
    deflater.compress(text.span, to: &first)
    deflater.reset()
    var second = BytesBuilder()
    deflater.compress(text.span, to: &second)
    let bytes = second.take()
    #expect(bytes == first.take())
    #expect(inflate(bytes, try #require(Inflater(windowBits: 15))) == text)
  }

  @Test("a stream that is wrong is told from one that is cut off")
  func errors() throws {
    let inflater = try #require(Inflater(windowBits: 15))
    // RFC 1951 §3.2.3: the block type 3 is reserved.
    #expect(inflate([0x07], inflater) == nil)
    inflater.reset()
    var compressed = BytesBuilder()
    try #require(Deflater(DeflateSettings(windowBits: 15))).compress(text(1000).span, to: &compressed)
    let cut = compressed.take().dropLast(20)
    #expect(inflate(cut, inflater) != nil)
    #expect(!inflater.isBetweenBlocks)
  }

  @Test("a small message gets a small window, a large one all that was agreed upon")
  func fitted() {
    let settings = DeflateSettings(windowBits: 15)
    #expect(settings.fitted(to: 4 << 10).windowBits == 12 && settings.fitted(to: 4 << 10).memoryLevel == 5)
    #expect(settings.fitted(to: (4 << 10) + 1) == settings)
    #expect(DeflateSettings(windowBits: 9).fitted(to: 10).windowBits == 9)
  }
}
