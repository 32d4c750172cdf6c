import CSluiceZlib
import SluiceStreams

/// How zlib looks for matches: its `strategy`.
public enum DeflateStrategy: Sendable, Hashable {
  case normal, filtered, huffmanOnly, runLength, fixed
}

/// What stands around a deflate stream.
package enum DeflateFormat: Sendable, Hashable {
  /// Nothing (RFC 1951).
  case raw
  /// A header and a checksum (RFC 1952).
  case gzip
}

/// What a compressor is set up with, and so what makes two of them interchangeable.
package struct DeflateSettings: Sendable, Hashable {
  package var windowBits: Int
  package var level: Int
  package var memoryLevel: Int
  package var strategy: DeflateStrategy

  package init(
    windowBits: Int, level: Int = 6, memoryLevel: Int = 8, strategy: DeflateStrategy = .normal
  ) {
    self.windowBits = windowBits
    self.level = level
    self.memoryLevel = memoryLevel
    self.strategy = strategy
  }

  /// For a message that starts anew: as much window as it can use, and a table to search it that is cleared in proportion to
  /// the message. A smaller window than agreed upon is always allowed.
  package func fitted(to byteCount: Int) -> DeflateSettings {
    var fitted = self
    if byteCount <= 4 << 10 {
      fitted.windowBits = Swift.min(windowBits, 12)
      fitted.memoryLevel = Swift.min(memoryLevel, 5)
    }
    return fitted
  }
}

/// A raw deflate stream of zlib.
@safe package final class Deflater {
  package let settings: DeflateSettings
  private let stream: UnsafeMutablePointer<z_stream>

  /// - Returns: nil if there is not enough memory.
  package init?(_ settings: DeflateSettings) {
    self.settings = settings
    unsafe stream = .allocate(capacity: 1)
    // zlib writes raw streams with windows of 2^9 bytes and more. With 9 it never reaches back more than 250 bytes
    // (it keeps 262 ahead), which a reader with a window of 2^8 understands.
    let bits = Int32(Swift.max(settings.windowBits, 9))
    let status = unsafe sluice_deflate_init(
      stream, Int32(settings.level), -bits, Int32(settings.memoryLevel), settings.strategy.number)
    guard status == Z_OK else {
      unsafe stream.deallocate()
      return nil
    }
  }

  deinit {
    unsafe deflateEnd(stream)
    unsafe stream.deallocate()
  }

  /// Forgets all that was compressed.
  package func reset() { unsafe _ = deflateReset(stream) }

  /// Compresses `input` to the end, and up to a byte's end (Z_SYNC_FLUSH): what is appended closes with 00 00 FF FF, unless
  /// there was nothing to flush.
  package func compress(_ input: Span<UInt8>, to output: inout BytesBuilder) {
    unsafe input.withUnsafeBufferPointer { buffer in
      var rest = unsafe buffer
      repeat {
        // zlib counts with 32 bits.
        let part = Swift.min(rest.count, 1 << 30)
        unsafe compress(
          rest.baseAddress, count: part, flush: part == rest.count ? Z_SYNC_FLUSH : Z_NO_FLUSH, to: &output)
        unsafe rest = UnsafeBufferPointer(rebasing: rest[part...])
      } while !rest.isEmpty
    }
  }

  private func compress(
    _ input: UnsafePointer<UInt8>?, count: Int, flush: Int32, to output: inout BytesBuilder
  ) {
    unsafe stream.pointee.next_in = UnsafeMutablePointer(mutating: input)
    unsafe stream.pointee.avail_in = UInt32(count)
    repeat {
      let room = Swift.max(output.capacity - output.count, Swift.min(count / 4 + 64, 256 << 10))
      unsafe output.appendInitializing(upTo: room) { target in
        unsafe stream.pointee.next_out = target
        unsafe stream.pointee.avail_out = UInt32(room)
        _ = unsafe deflate(stream, flush)
        return room - Int(unsafe stream.pointee.avail_out)
      }
      // A full output may hide more; with room left all is out.
    } while unsafe stream.pointee.avail_out == 0
    unsafe stream.pointee.next_in = nil
    unsafe stream.pointee.next_out = nil
  }
}

extension DeflateStrategy {
  fileprivate var number: Int32 {
    switch self {
    case .normal: Z_DEFAULT_STRATEGY
    case .filtered: Z_FILTERED
    case .huffmanOnly: Z_HUFFMAN_ONLY
    case .runLength: Z_RLE
    case .fixed: Z_FIXED
    }
  }
}
