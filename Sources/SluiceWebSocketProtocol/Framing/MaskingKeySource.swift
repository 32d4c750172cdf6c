#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Keys for a client's frames, each from the system's random number generator and each used once (RFC 6455 §10.3).
///
/// Random bytes are fetched 256 at a time, which the system gives in one piece: a key costs a few nanoseconds.
/// The value can't be copied, so no key is given out twice.
public struct MaskingKeySource: ~Copyable, Sendable {
  private static let size = 64
  // Not an `InlineArray`, which would need macOS 26.
  private var keys = [UInt32](repeating: 0, count: Self.size)
  private var used = Self.size

  public init() {}

  /// A key that was not given out before.
  public mutating func next() -> MaskingKey {
    if used == Self.size { refill() }
    let key = keys[used]
    used += 1
    return MaskingKey(word: key)
  }

  @inline(never)
  private mutating func refill() {
    if !fillFromSystem() {
      var generator = SystemRandomNumberGenerator()
      for index in keys.indices { keys[index] = generator.next() }
    }
    used = 0
  }

  /// - Returns: false where the system has no call that fills a buffer, or it failed.
  private mutating func fillFromSystem() -> Bool {
    let wanted = Self.size * MemoryLayout<UInt32>.size
    return unsafe keys.withUnsafeMutableBytes { buffer in
      #if canImport(Glibc) || canImport(Musl)
        return unsafe getentropy(buffer.baseAddress!, wanted) == 0  // 256 bytes are its most
      #elseif canImport(Darwin)
        unsafe arc4random_buf(buffer.baseAddress, wanted)
        return true
      #else
        return false
      #endif
    }
  }
}

/// A key source on the heap, so that a server's connections don't hold its memory.
package final class MaskingKeys {
  private var source = MaskingKeySource()

  package init() {}

  package func next() -> MaskingKey { source.next() }
}
