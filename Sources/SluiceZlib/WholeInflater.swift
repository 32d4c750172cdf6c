import SluiceStreams

#if Libdeflate
  import CSluiceLibdeflate
#endif

/// Inflates what lies there whole and starts anew, as a message without context takeover, with libdeflate: that takes half of zlib's instructions for JSON of 1 KiB.
/// Without the trait Libdeflate there is none.
///
/// It gives what a stream holds, or nothing: what is broken, or only too long, is for `Inflater`, which says what is wrong. What both take is the same.
///
/// Of streams that no compressor makes it takes some that `Inflater` does not: libdeflate gives a meaning to codewords that have none, those that a code of
/// one or no codeword leaves over (RFC 1951 §3.2.7) and the lengths 286 and 287 and distances 30 and 31 (§3.2.5, §3.2.6); and up to its version 1.14 at least, to
/// a repetition of code lengths that goes on behind the last of them.
@safe package final class WholeInflater {
  /// The longest message that is inflated so, in bytes: one that is too long when it is inflated is inflated in vain.
  package static let maxInput = 16 << 10
  /// The most that it becomes, in bytes.
  package static let maxOutput = 64 << 10

  #if Libdeflate
    private let decompressor: OpaquePointer
    /// The message and its last blocks, which have to lie side by side.
    @safe @exclusivity(unchecked) private var input = BytesBuilder()
    private let lastBlocks: LastBlocks

    /// - Returns: nil if there is not enough memory.
    package static func make() -> WholeInflater? {
      guard let decompressor = unsafe libdeflate_alloc_decompressor() else { return nil }
      return unsafe WholeInflater(decompressor)
    }

    private init(_ decompressor: OpaquePointer) {
      unsafe self.decompressor = decompressor
      lastBlocks = LastBlocks()
    }

    deinit { unsafe libdeflate_free_decompressor(decompressor) }

    /// Inflates a message whose last block lacks 00 00 FF FF (RFC 7692 §7.2.1), where `output` has room for it and some bytes more.
    /// - Returns: whether that was done. If not, nothing was appended.
    package func inflate(_ message: Span<UInt8>, to output: inout BytesBuilder) -> Bool {
      let room = min(output.capacity - output.count, Self.maxOutput + LastBlocks.markSize)
      guard message.count <= Self.maxInput, room > LastBlocks.markSize else { return false }
      var input = input.move()
      defer { self.input = input.move() }
      input.truncate(to: 0)
      input.append(message)
      lastBlocks.append(to: &input)
      var isInflated = false
      unsafe input.span.withUnsafeBufferPointer { stream in
        unsafe output.appendInitializing(upTo: room) { target in
          var (consumed, written) = (0, 0)
          let result = unsafe libdeflate_deflate_decompress_ex(
            decompressor, stream.baseAddress, stream.count, target, room, &consumed, &written)
          guard result == LIBDEFLATE_SUCCESS, consumed == stream.count, written >= LastBlocks.markSize else { return 0 }
          let end = written - LastBlocks.markSize
          isInflated = unsafe lastBlocks.isMarked(target + end)
          return isInflated ? end : 0
        }
      }
      return isInflated
    }
  #else
    package static func make() -> WholeInflater? { nil }

    package func inflate(_ message: Span<UInt8>, to output: inout BytesBuilder) -> Bool { false }
  #endif
}

#if Libdeflate
  /// What is put behind a message, so that libdeflate, which knows whole streams only, finds an end.
  ///
  /// The message's last block is empty, and its length is what the sender took off. Here it is given content: a mark that no sender knows. If that is what
  /// the stream ends with, the message ended where a block begins, and all of it was inflated. Behind a message that is cut off, or has an end of
  /// its own (RFC 7692 §7.2.3.4), it is not.
  private struct LastBlocks {
    static var markSize: Int { MemoryLayout<UInt64>.size }
    private let mark = UInt64.random(in: .min ... .max)

    func append(to stream: inout BytesBuilder) {
      // A block as it is (RFC 1951 §3.2.4): its length, and that inverted, the lowest byte first.
      for byte: UInt8 in [0x08, 0x00, 0xF7, 0xFF] { stream.append(byte) }
      stream.append(bigEndian: mark)
      // The last block, which is empty.
      for byte: UInt8 in [0x01, 0x00, 0x00, 0xFF, 0xFF] { stream.append(byte) }
    }

    func isMarked(_ end: UnsafeMutablePointer<UInt8>) -> Bool {
      unsafe UnsafeRawPointer(end).loadUnaligned(as: UInt64.self).bigEndian == mark
    }
  }
#endif
