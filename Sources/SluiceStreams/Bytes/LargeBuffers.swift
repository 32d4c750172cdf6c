import Synchronization

/// Memory of large buffers, kept for the next user.
///
/// The C library maps and unmaps a large allocation, and the kernel clears each page anew: at 1 MiB per message that
/// costs more than everything else. Up to `maxKept` bytes stay with the process.
enum LargeBuffers {
  /// Smaller allocations are left to the C library.
  static let minSize = 128 << 10
  /// Larger ones are too.
  private static let maxSize = 4 << 20
  /// Bytes that are kept, in all.
  private static let maxKept = 16 << 20

  @safe fileprivate struct Kept: @unchecked Sendable {  // the pool owns what it keeps
    var buffers: [[UnsafeMutablePointer<UInt8>]] = unsafe Array(repeating: [], count: 6)
    var size = 0
  }
  private static let kept = Mutex(Kept())

  /// The size that is allocated for a wanted one: the next power of two, where the pool has its hand in it.
  static func roundedSize(_ size: Int) -> Int {
    guard size >= minSize, size <= maxSize else { return size }
    return 1 << (Int.bitWidth - (size - 1).leadingZeroBitCount)
  }

  /// - Parameter size: As `roundedSize` gave it.
  static func allocate(_ size: Int) -> UnsafeMutablePointer<UInt8> {
    if let index = index(of: size) {
      let reused = kept.withLock { kept -> Kept.Buffer? in
        guard let buffer = unsafe kept.buffers[index].popLast() else { return nil }
        kept.size -= size
        return unsafe Kept.Buffer(pointer: buffer)
      }
      if let reused { return unsafe reused.pointer }
    }
    return .allocate(capacity: size)
  }

  static func deallocate(_ pointer: UnsafeMutablePointer<UInt8>, size: Int) {
    if let index = index(of: size) {
      let buffer = unsafe Kept.Buffer(pointer: pointer)
      let isKept = kept.withLock { kept in
        guard kept.size + size <= maxKept else { return false }
        kept.size += size
        unsafe kept.buffers[index].append(buffer.pointer)
        return true
      }
      if isKept { return }
    }
    unsafe pointer.deallocate()
  }

  private static func index(of size: Int) -> Int? {
    guard size >= minSize, size <= maxSize else { return nil }
    return size.trailingZeroBitCount - minSize.trailingZeroBitCount
  }
}

extension LargeBuffers.Kept {
  @safe fileprivate struct Buffer: @unchecked Sendable {  // on its way into or out of the pool: nobody else has it
    let pointer: UnsafeMutablePointer<UInt8>
  }
}
