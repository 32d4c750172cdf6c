#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The C library looks at as many bytes at once as the processor can, a loop at one: the end of a line of 100 bytes is found in 4 ns and not in 42, that of
/// 64 KiB in 0.6 µs and not in 27.
extension Bytes {
  /// Where a byte comes first, counted from the beginning of the slice.
  package func firstOffset(of byte: UInt8) -> Int? {
    unsafe span.withUnsafeBufferPointer { unsafe Self.firstOffset(of: byte, in: $0) }
  }

  /// Where one of two bytes comes first, counted from the beginning of the slice.
  package func firstOffset(of byte: UInt8, or other: UInt8) -> Int? {
    unsafe span.withUnsafeBufferPointer { bytes in
      var start = 0
      // Not in all at once: a line of two bytes behind the other would have all that follows looked through for the one that is not there.
      while start < bytes.count {
        let part = unsafe UnsafeBufferPointer(
          rebasing: bytes[start..<Swift.min(start + Self.searchedAtOnce, bytes.count)])
        let first = unsafe Self.firstOffset(of: byte, in: part)
        let before = unsafe UnsafeBufferPointer(rebasing: part[..<(first ?? part.count)])
        if let offset = unsafe Self.firstOffset(of: other, in: before) ?? first { return start + offset }
        start += part.count
      }
      return nil
    }
  }

  private static var searchedAtOnce: Int { 1 << 10 }

  private static func firstOffset(of byte: UInt8, in bytes: UnsafeBufferPointer<UInt8>) -> Int? {
    guard let start = bytes.baseAddress, let found = unsafe memchr(start, CInt(byte), bytes.count) else { return nil }
    return unsafe UnsafeRawPointer(found) - UnsafeRawPointer(start)
  }
}
