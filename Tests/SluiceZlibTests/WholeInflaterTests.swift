#if Libdeflate
  import SluiceStreams
  import SluiceZlib
  import Testing

  @Suite("Whole streams, inflated at once")
  struct WholeInflaterTests {
    private let inflater: WholeInflater

    init() throws { inflater = try #require(WholeInflater.make()) }

    /// As a message is sent: without its last four bytes.
    private func compressed(_ text: Bytes, level: Int = 6) throws -> Bytes {
      var output = BytesBuilder()
      try #require(Deflater(DeflateSettings(windowBits: 15, level: level))).compress(text.span, to: &output)
      return Bytes(Array(output.take().dropLast(4)))
    }

    private func inflate(_ message: Bytes, room: Int = 66 << 10) -> Bytes? {
      var output = BytesBuilder(capacity: room)
      output.append("before")
      guard inflater.inflate(message.span, to: &output) else {
        #expect(output.take() == "before")
        return nil
      }
      return output.take().dropFirst(6)
    }

    @Test(
      "what was compressed comes back, behind what was there", arguments: [1, 2, 100, 1 << 10, 60_000, 64 << 10],
      [1, 6, 9])
    func roundTrip(count: Int, level: Int) throws {
      let text = Bytes((0..<count).map { UInt8(ascii: "a") + UInt8(($0 * $0 / 7) % 17) })
      #expect(inflate(try compressed(text, level: level)) == text)
    }

    @Test("an empty message (RFC 7692 §7.2.3.6), and the RFC's own")
    func examples() {
      #expect(inflate([0x00]) == "")
      #expect(inflate([0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00]) == "Hello")
      // As it is, in a block that is not compressed (§7.2.3.3).
      #expect(inflate([0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00]) == "Hello")
      // In two blocks (§7.2.3.5).
      let blocks: Bytes = [0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00]
      #expect(inflate(blocks) == "Hello")
    }

    @Test("what is not a whole stream of that kind is left to others, and nothing of it is kept")
    func others() throws {
      // With an end of its own (§7.2.3.4).
      #expect(inflate([0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00]) == nil)
      // The reserved type of a block.
      #expect(inflate([0x07]) == nil)
      // A block as it is whose last four bytes would be those that are put behind the message.
      #expect(inflate([0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48]) == nil)
      let whole = try compressed("a text that is long enough to be cut off anywhere, and cut off it is, anywhere")
      for count in 1..<whole.count { #expect(inflate(whole.prefix(count)) == nil, "cut off after \(count) bytes") }
    }

    @Test("a codeword without a meaning is taken, where zlib says what is wrong with it")
    func codewordWithoutMeaning() throws {
      // A block with "a" and a repetition of it, whose distance is the codeword that a code of one distance leaves over.
      let message: Bytes = [
        0x0C, 0xE0, 0x01, 0x09, 0x00, 0x00, 0x00, 0x80, 0x20, 0x6C, 0xED, 0xFF, 0x89, 0x34, 0x07,
      ]
      #expect(inflate(message) == "aaaa")
      let zlib = try #require(Inflater(windowBits: 15))
      var output = BytesBuilder(capacity: 64 << 10)
      #expect(zlib.inflate(message.span, to: &output, limit: 64 << 10) == nil)
      #expect(zlib.failure == "invalid distance code")
    }

    @Test("the longest that is inflated so, and one byte more")
    func limits() throws {
      let zeros = Bytes([UInt8](repeating: 0, count: WholeInflater.maxOutput + 1))
      #expect(inflate(try compressed(zeros.dropLast())) == zeros.dropLast())
      #expect(inflate(try compressed(zeros)) == nil)
      // As they are, so that they are as long as they are compressed: each block has a head of 5 bytes.
      let stored = Bytes((0..<WholeInflater.maxInput - 6).map { UInt8(truncatingIfNeeded: $0) })
      let head: [UInt8] = [0x00] + [UInt8(truncatingIfNeeded: stored.count), UInt8(stored.count >> 8)]
      let message = Bytes(head + [~head[1], ~head[2]] + Array(stored) + [0x00])
      #expect(message.count == WholeInflater.maxInput && inflate(message) == stored)
      #expect(inflate(Bytes(Array(message) + [0x00])) == nil)
      // Where there is no room, nothing is written.
      #expect(inflate(try compressed("no room"), room: 6 + 7 + 7) == nil)
      #expect(inflate(try compressed("no room"), room: 6 + 7 + 8) == "no room")
    }
  }
#endif
