import SluiceStreams

/// The memory that every socket of a loop reads into.
///
/// It stays in the cache, and an idle connection holds none. What is read is lent: see `ByteStorage`.
package struct ReadBuffer {
  package static let size = 256 << 10
  private var storage = ByteStorage(capacity: size)
  /// Whether what was just read is being shown to somebody, without a reference that a slice would cost.
  private var isLent = false
  /// What is being shown and is not `storage` any more, the latest at the end: somebody has read meanwhile, from inside of that.
  private var displaced: [ByteStorage] = []

  package init() {}

  /// The memory for the next read. Nobody else holds a part of it, and nobody looks at it.
  package mutating func next() -> UnsafeMutableBufferPointer<UInt8> {
    if isLent { displaceLent() } else if !isKnownUniquelyReferenced(&storage) { renew() }
    return unsafe UnsafeMutableBufferPointer(start: storage.pointer, count: storage.capacity)
  }

  private mutating func renew() { storage = ByteStorage(capacity: Self.size) }

  @inline(never)
  private mutating func displaceLent() {
    displaced.append(storage)
    isLent = false
    renew()
  }

  /// The first `count` bytes, just read.
  package func filled(_ count: Int) -> Bytes {
    Bytes(storage: storage, start: 0, end: count)
  }

  /// Begins to show what was just read.
  package mutating func lend() { isLent = true }

  /// Ends that.
  package mutating func endLending() {
    if isLent { isLent = false } else { displaced.removeLast() }
  }

  /// Ends that, and gives what was shown, but for the first `used` bytes, as a slice.
  package mutating func endLending(from used: Int, to count: Int) -> Bytes {
    let shown = isLent ? storage : displaced.last ?? storage
    endLending()
    return Bytes(storage: shown, start: used, end: count)
  }
}
