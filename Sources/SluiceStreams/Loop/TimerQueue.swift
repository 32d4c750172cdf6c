import HeapModule

/// The timers of a loop: what is due next, and what was cancelled. A value that knows no clock.
package struct TimerQueue {
  private struct Entry: Comparable {
    let timer: LoopTimer
    let work: @Sendable () -> Void

    static func < (left: Entry, right: Entry) -> Bool {
      (left.timer.deadline, left.timer.id) < (right.timer.deadline, right.timer.id)
    }
    static func == (left: Entry, right: Entry) -> Bool { left.timer == right.timer }
  }

  private var heap = Heap<Entry>()
  private var live: Set<UInt64> = []
  private var nextID: UInt64 = 0

  package init() {}

  /// Timers that are neither due nor cancelled.
  package var count: Int { live.count }

  package mutating func add(deadline: Duration, _ work: @escaping @Sendable () -> Void) -> LoopTimer {
    nextID += 1
    let timer = LoopTimer(id: nextID, deadline: deadline)
    heap.insert(Entry(timer: timer, work: work))
    live.insert(nextID)
    return timer
  }

  package mutating func cancel(_ timer: LoopTimer) {
    guard live.remove(timer.id) != nil else { return }
    // Cancelled entries are swept when they are the majority, so that what they captured does not pile up.
    if heap.count > 64 && heap.count > 2 * live.count {
      let live = live
      heap = Heap(heap.unordered.filter { live.contains($0.timer.id) })
    }
  }

  package var nextDeadline: Duration? {
    mutating get {
      while let first = heap.min, !live.contains(first.timer.id) { heap.removeMin() }
      return heap.min?.timer.deadline
    }
  }

  /// The next timer whose deadline is not after `now`.
  package mutating func popDue(at now: Duration) -> (@Sendable () -> Void)? {
    guard let deadline = nextDeadline, deadline <= now else { return nil }
    let entry = heap.removeMin()
    let wasLive = live.remove(entry.timer.id) != nil
    assert(wasLive && heap.count >= live.count, "a timer fires that was cancelled, or is not queued")
    return entry.work
  }
}
