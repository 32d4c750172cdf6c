/// The two marks of a queue that a writer waits for: at the high one it is told that there is no room, and at the low one,
/// half of it, it is woken. A value that knows no waker and no loop.
///
/// ```swift
/// var mark = Watermark(high: 64 << 10)
/// mark.hasRoom(queued: 64 << 10)      // false: the writer that asked waits from now on
/// mark.isReached(queued: 40 << 10)    // false
/// mark.isReached(queued: 32 << 10)    // true: wake the writer, once
/// ```
package struct Watermark: Sendable {
  package var high: Int { Int(limit) }
  private var limit: UInt32
  private var isAwaited = false

  /// - Parameter high: 1 or more; less counts as 1, which is room for one element at a time, and more than 4 GiB as that.
  package init(high: Int) {
    limit = UInt32(clamping: Swift.max(high, 1))
  }

  /// Moves both marks. Whoever waits is woken at the low one as it is then.
  package mutating func move(high: Int) { limit = UInt32(clamping: Swift.max(high, 1)) }

  /// Whether there is room; if not, that somebody waits for it.
  package mutating func hasRoom(queued: Int) -> Bool {
    assert(queued >= 0, "less than nothing is queued")
    if queued < high { return true }
    isAwaited = true
    return false
  }

  /// Whether the room that somebody waits for is there: then the writer is to be woken.
  package mutating func isReached(queued: Int) -> Bool {
    assert(queued >= 0, "less than nothing is queued")
    guard isAwaited, queued <= high / 2 else { return false }
    isAwaited = false
    return true
  }
}
