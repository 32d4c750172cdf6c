/// Memory that the streams of one loop take turns to gather output in, so that none holds any while it is idle. What they hand
/// on of it is lent: see `ByteStorage`.
@safe public final class ScratchBuffers: @unchecked Sendable {  // used on its loop only
  /// Those that nobody uses, counted references; the last one is the next to be used.
  private let free: UnsafeMutablePointer<Unmanaged<ByteStorage>>
  @safe @exclusivity(unchecked) private var freeCount = 0
  @safe @exclusivity(unchecked) @usableFromInline var smallBuffer = SmallBuffer()
  private let size: Int
  private let keep: Int
  /// Buffers that were taken since one came back.
  @safe @exclusivity(unchecked) private var takenInARow = 0
  /// Bytes of a buffer where many streams gather in one turn, as the members of a broadcast do: each that has more to say grows its own. A process
  /// with 5,000 members that were sent 100 bytes at a time grew by 10 MiB, and by 58 to 96 where each had the whole size.
  private static let sizeAmongMany = 2 << 10

  /// - Parameters:
  ///   - size: Bytes of each buffer, but of those that are taken in a row beyond `keep`.
  ///   - keep: Buffers that are kept for the next user, 0 or more.
  public init(size: Int = 64 << 10, keep: Int = 16) {
    self.size = size
    self.keep = keep
    unsafe free = .allocate(capacity: keep)
  }

  deinit {
    for index in 0..<freeCount { unsafe free[index].release() }
    unsafe free.deallocate()
  }

  package func take() -> BytesBuilder {
    takenInARow &+= 1
    guard freeCount > 0 else {
      return BytesBuilder(reusing: ByteStorage(capacity: takenInARow > keep ? min(size, Self.sizeAmongMany) : size))
    }
    freeCount -= 1
    return unsafe BytesBuilder(reusing: free[freeCount].takeRetainedValue())
  }

  /// Memory for a small message of so many bytes, or for a larger one; it need not be given back.
  @inlinable
  package func takeForMessage(_ count: Int) -> BytesBuilder {
    count <= SmallBuffer.capacity ? smallBuffer.take() : BytesBuilder(capacity: count)
  }

  package func give(_ builder: consuming BytesBuilder) {
    takenInARow = 0
    guard freeCount < keep, builder.capacity == size, let storage = builder.reclaim() else { return }
    unsafe (free + freeCount).initialize(to: .passRetained(storage))
    freeCount += 1
  }
}
