import DequeModule

/// Bytes that wait to be written, in order.
///
/// A chunk is queued as it is, without a copy, for a write in the same turn of the loop. What stays beyond the turn must be
/// settled: a few bytes then no longer hold a large buffer, nor one that the loop wants to read into, and many small chunks
/// become few.
package struct ByteQueue: ~Copyable {
  private var chunks = Deque<Bytes>()
  /// Small chunks behind `chunks`, put together.
  private var tail = BytesBuilder()
  package private(set) var count = 0

  /// Chunks up to this many bytes are put together where they stay.
  private static let smallSize = 4 << 10
  private static let tailSize = 16 << 10
  /// Longer chunks are cut: the system's interfaces count them with 32 bits or less.
  private static let maxChunkSize = 1 << 30

  package init() {}

  package var isEmpty: Bool { count == 0 }

  package mutating func append(_ bytes: consuming Bytes) {
    if bytes.isEmpty { return }
    closeTail()
    count += bytes.count
    enqueue(bytes)
  }

  private mutating func enqueue(_ bytes: Bytes) {
    var bytes = bytes
    while bytes.count > Self.maxChunkSize {
      chunks.append(bytes.prefix(Self.maxChunkSize))
      bytes = bytes.dropFirst(Self.maxChunkSize)
    }
    chunks.append(bytes)
  }

  /// Appends what will stay beyond this turn of the loop.
  package mutating func appendSettled(_ bytes: consuming Bytes) {
    if bytes.isEmpty { return }
    count += bytes.count
    guard bytes.count <= Self.smallSize else {
      closeTail()
      return enqueue(bytes.compacted())
    }
    if tail.count + bytes.count > Self.tailSize { closeTail() }
    tail.append(bytes)
  }

  /// Moves what is queued into memory of its own, where it is a small part of its buffer or one of many small chunks.
  package mutating func settle() {
    let unsettled = chunks
    chunks = Deque()
    let rest = tail.take()
    count = 0
    for chunk in unsettled { appendSettled(chunk) }
    appendSettled(rest)
    closeTail()
    assert(chunks.reduce(0) { $0 + $1.count } == count, "the queue holds another number of bytes than it counts")
  }

  /// Drops the first `count` bytes, as they were written.
  package mutating func dropFirst(_ count: Int) {
    assert(count >= 0 && count <= self.count, "more is dropped than is queued")
    self.count -= count
    var left = count
    while left > 0, let first = chunks.first {
      if first.count <= left {
        left -= first.count
        chunks.removeFirst()
      } else {
        chunks[0] = first.dropFirst(left)
        left = 0
      }
    }
    assert(left == 0, "what is dropped was not at the front")
  }

  package mutating func removeAll() {
    chunks = Deque()
    tail = BytesBuilder()
    count = 0
  }

  /// The first chunks, at most `limit`, for one gathering write. They stay where they are until they are dropped.
  package mutating func front(limit: Int) -> Deque<Bytes>.SubSequence {
    closeTail()
    return chunks.prefix(limit)
  }

  private mutating func closeTail() {
    if !tail.isEmpty { chunks.append(tail.take()) }
  }
}
