import CSluiceZlib
import SluiceStreams
import Synchronization

/// Writes gzip (RFC 1952) piece by piece, each so that it can be read at once: its own pieces, which refer to those before them, and such as many
/// streams share, which refer to nothing.
///
/// All pieces end at a byte's end. Behind a shared one nothing may refer to what was before it, as distances have grown by it.
package struct GzipWriter: ~Copyable {
  private let settings: DeflateSettings
  /// What was compressed since the last shared piece; nil, and no memory, if nothing was.
  private var deflater: Deflater?
  private var checksum: uLong = 0
  /// Modulo 2^32, as the trailer has it.
  private var count: UInt32 = 0

  /// What is to be written first: deflate, without a name or a time, from an unknown system.
  package static let header: Bytes = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF]

  /// Pieces up to this size are stored as they are where there is no context yet: it would cost more than it gains.
  private static let storedSize = 64

  /// - Parameter settings: Of the stream's own pieces.
  package init(_ settings: DeflateSettings) {
    self.settings = settings
  }

  /// Appends a piece of its own.
  package mutating func append(_ piece: Span<UInt8>, to output: inout BytesBuilder) {
    checksum = piece.checksum(behind: checksum)
    count &+= UInt32(truncatingIfNeeded: piece.count)
    if deflater == nil && piece.count > Self.storedSize { deflater = Deflater(settings) }
    // Without memory for a context it is still right.
    if let deflater { deflater.compress(piece, to: &output) } else { output.append(stored: piece) }
  }

  /// Takes a piece that others share into account: its bytes follow.
  package mutating func join(_ piece: DeflatedPiece) {
    checksum = sluice_crc_combine(checksum, piece.checksum, piece.shift)
    count &+= UInt32(truncatingIfNeeded: piece.count)
    deflater = nil
  }

  /// Ends the stream.
  package mutating func finish(to output: inout BytesBuilder) {
    // A last block without anything, in the fixed code (RFC 1951 §3.2.6).
    output.append(3)
    output.append(0)
    output.append(bigEndian: UInt32(truncatingIfNeeded: checksum).byteSwapped)
    output.append(bigEndian: count.byteSwapped)
  }
}

/// A piece of any gzip stream, compressed by itself.
package struct DeflatedPiece: Sendable {
  package let bytes: Bytes
  let count: Int
  let checksum: uLong
  /// What turns the checksum of what stands before the piece, and this one, to that of both.
  let shift: uLong

  /// The one context that all pieces are made with, one after the other.
  private static let deflater = Mutex<Deflater?>(nil)

  package init(_ text: Bytes) {
    count = text.count
    checksum = text.span.checksum(behind: 0)
    shift = sluice_crc_shift(text.count)
    bytes = Self.deflater.withLock { deflater in
      var output = BytesBuilder(capacity: 64 + text.count / 4)
      if deflater == nil { deflater = Deflater(DeflateSettings(windowBits: 15)) }
      guard let deflater else {
        output.append(stored: text.span)
        return output.take()
      }
      deflater.reset()
      deflater.compress(text.span, to: &output)
      return output.take()
    }
  }
}

extension Span<UInt8> {
  /// The CRC-32 of what stands before and this.
  fileprivate func checksum(behind before: uLong) -> uLong {
    unsafe withUnsafeBufferPointer { buffer in
      var checksum = before
      var rest = unsafe buffer
      // zlib counts with 32 bits.
      while !rest.isEmpty {
        let part = Swift.min(rest.count, 1 << 30)
        checksum = unsafe crc32(checksum, rest.baseAddress, uInt(part))
        unsafe rest = UnsafeBufferPointer(rebasing: rest[part...])
      }
      return checksum
    }
  }
}

extension BytesBuilder {
  /// As it is, in blocks of up to 65,535 bytes (RFC 1951 §3.2.4).
  fileprivate mutating func append(stored span: Span<UInt8>) {
    var start = 0
    while start < span.count {
      let end = Swift.min(start + 0xFFFF, span.count)
      let length = UInt16(end - start)
      append(0)
      append(bigEndian: length.byteSwapped)
      append(bigEndian: (~length).byteSwapped)
      append(span.extracting(start..<end))
      start = end
    }
  }
}
