import CSluiceZlib
import SluiceStreams

/// An inflate stream of zlib.
@safe package final class Inflater: @unchecked Sendable {  // used by one owner at a time
  package let windowBits: Int
  private let format: DeflateFormat
  private let stream: UnsafeMutablePointer<z_stream>
  /// Of gzip: whether nothing has come since the last member ended, if one has, so that the input may end here (RFC 1952 §2.2).
  package private(set) var isBetweenMembers = true

  /// - Returns: nil if there is not enough memory.
  package init?(windowBits: Int, format: DeflateFormat = .raw) {
    self.windowBits = windowBits
    self.format = format
    unsafe stream = .allocate(capacity: 1)
    guard unsafe sluice_inflate_init(stream, format == .raw ? -Int32(windowBits) : Int32(windowBits) + 16) == Z_OK
    else {
      unsafe stream.deallocate()
      return nil
    }
  }

  deinit {
    unsafe inflateEnd(stream)
    unsafe stream.deallocate()
  }

  /// Forgets all that was inflated.
  package func reset() { unsafe _ = inflateReset(stream) }

  /// What one step did.
  package struct Step {
    /// Bytes of the input that were used.
    package var consumed: Int
    /// Whether more output may come without more input.
    package var hasMore: Bool
  }

  /// Inflates a part of `input` into the room that `output` has, at most `limit` bytes.
  /// - Returns: nil if the input is not a deflate stream.
  package func inflate(_ input: Span<UInt8>, to output: inout BytesBuilder, limit: Int) -> Step? {
    unsafe input.withUnsafeBufferPointer { buffer in
      // zlib counts with 32 bits.
      let count = Swift.min(buffer.count, 1 << 30)
      let room = Swift.min(limit, output.capacity - output.count)
      unsafe stream.pointee.next_in = UnsafeMutablePointer(mutating: buffer.baseAddress)
      unsafe stream.pointee.avail_in = UInt32(count)
      var status = Z_OK
      unsafe output.appendInitializing(upTo: room) { target in
        unsafe stream.pointee.next_out = target
        unsafe stream.pointee.avail_out = UInt32(room)
        status = unsafe CSluiceZlib.inflate(stream, Z_SYNC_FLUSH)
        return room - Int(unsafe stream.pointee.avail_out)
      }
      let rest = Int(unsafe stream.pointee.avail_in)
      let isFull = unsafe stream.pointee.avail_out == 0
      unsafe stream.pointee.next_in = nil
      unsafe stream.pointee.next_out = nil
      if rest < count { isBetweenMembers = status == Z_STREAM_END }
      switch status {
      case Z_OK, Z_BUF_ERROR:
        return Step(consumed: count - rest, hasMore: isFull || (rest > 0 && count > rest) || buffer.count > count)
      case Z_STREAM_END:
        // RFC 7692 §7.2.3.4: a block may be marked as the last; another stream follows it, with the same window.
        // Copying the window out and in again would let a sender have 64 KiB copied for each empty block, of two bytes.
        // Of gzip's members (RFC 1952 §2.2), each stands for itself.
        if format == .raw { unsafe _ = inflateResetKeep(stream) } else { unsafe _ = inflateReset(stream) }
        return Step(consumed: count - rest, hasMore: rest > 0 || buffer.count > count)
      default: return nil
      }
    }
  }

  /// What zlib says is wrong with the input, once `inflate` has given nil.
  package var failure: String? { unsafe stream.pointee.msg.map { unsafe String(cString: $0) } }

  /// Whether the input ended where a block may begin (zlib tells it in bit 7 of `data_type`), and so was complete.
  package var isBetweenBlocks: Bool { unsafe stream.pointee.data_type & 128 != 0 }
}
