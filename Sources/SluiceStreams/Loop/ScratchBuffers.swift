/// Memory that the streams of one loop take turns to gather output in, so that none holds any while it is idle. What they hand
/// on of it is lent: see `ByteStorage`.
public final class ScratchBuffers: @unchecked Sendable {  // used on its loop only
  /// The one that is used over and over; the others wait in `free`.
  @safe @exclusivity(unchecked) private var spare: ByteStorage?
  private var free: [ByteStorage] = []
  @safe @exclusivity(unchecked) private var smallBuffer = SmallBuffer()
  private let size: Int
  private let keep: Int

  /// - Parameters:
  ///   - size: Bytes of each buffer.
  ///   - keep: Buffers that are kept for the next user.
  public init(size: Int = 64 << 10, keep: Int = 16) {
    self.size = size
    self.keep = keep
  }

  package func take() -> BytesBuilder {
    if let storage = spare.take() { return BytesBuilder(reusing: storage) }
    return BytesBuilder(reusing: free.popLast() ?? ByteStorage(capacity: size))
  }

  /// Memory for a small message of so many bytes, or for a larger one; it need not be given back.
  package func takeForMessage(_ count: Int) -> BytesBuilder {
    count <= SmallBuffer.capacity ? smallBuffer.take() : BytesBuilder(capacity: count)
  }

  package func give(_ builder: consuming BytesBuilder) {
    guard builder.capacity == size, let storage = builder.reclaim() else { return }
    if spare == nil { spare = storage } else if free.count < keep { free.append(storage) }
  }
}
