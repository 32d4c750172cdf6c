import SluiceStreams

/// The memory that every socket of a loop reads into.
///
/// It stays in the cache, and an idle connection holds none. What is read is lent: see `ByteStorage`.
package struct ReadBuffer {
  package static let size = 256 << 10
  private var storage = ByteStorage(capacity: size)

  package init() {}

  /// The memory for the next read. Nobody else holds a part of it.
  package mutating func next() -> UnsafeMutableBufferPointer<UInt8> {
    if !isKnownUniquelyReferenced(&storage) { storage = ByteStorage(capacity: Self.size) }
    return unsafe UnsafeMutableBufferPointer(start: storage.pointer, count: storage.capacity)
  }

  /// The first `count` bytes, just read.
  package func filled(_ count: Int) -> Bytes {
    Bytes(storage: storage, start: 0, end: count)
  }
}
