import SluiceStreams

/// The memory that every socket of a loop reads into.
///
/// It stays in the cache, and an idle connection holds none. What is read is lent: see `ByteStorage`.
package struct ReadBuffer {
  package static let size = 256 << 10
  /// nil while it is lent, or before the first read.
  private var storage: ByteStorage?

  package init() {}

  /// The memory for the next read. Nobody else holds a part of it.
  package mutating func next() -> UnsafeMutableBufferPointer<UInt8> {
    if !isKnownUniquelyReferenced(&storage) { storage = ByteStorage(capacity: Self.size) }
    return unsafe UnsafeMutableBufferPointer(start: storage.unsafelyUnwrapped.pointer, count: Self.size)
  }

  /// The first `count` bytes, just read.
  package func filled(_ count: Int) -> Bytes {
    Bytes(storage: storage ?? .empty, start: 0, end: storage == nil ? 0 : count)
  }

  /// Takes the memory away for as long as what was just read is shown to somebody: who reads meanwhile, from inside of that, reads into other memory.
  /// That costs no reference, as a slice would.
  package mutating func lend() -> ByteStorage { storage.take() ?? .empty }

  /// Takes back what was lent.
  package mutating func takeBack(_ lent: consuming ByteStorage) {
    if storage == nil { storage = lent }
  }
}
