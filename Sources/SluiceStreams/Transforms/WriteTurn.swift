import Synchronization

/// One at a time writes: a second `write` is refused, and a `close` waits until it can begin, also behind another one.
package final class WriteTurn: Sendable {
  private struct State {
    var isTaken = false
    var waiting: [(id: Int, continuation: CheckedContinuation<Bool, Never>)] = []
    var lastID = 0
  }
  private let state = Mutex(State())

  package init() {}

  /// - Throws: `StreamError.concurrentWrite` while it is taken.
  func begin() throws {
    try state.withLock { state in
      if state.isTaken { throw StreamError.concurrentWrite }
      state.isTaken = true
    }
  }

  /// Waits while it is taken.
  /// - Throws: `CancellationError`.
  package func beginWhenFree() async throws {
    let id = state.withLock { state in
      state.lastID += 1
      return state.lastID
    }
    let isBegun = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let now: Bool? = state.withLock { state in
          if !state.isTaken {
            state.isTaken = true
            return true
          }
          if Task.isCancelled { return false }
          state.waiting.append((id, continuation))
          return nil
        }
        if let now { continuation.resume(returning: now) }
      }
    } onCancel: {
      let cancelled = state.withLock { state in
        state.waiting.firstIndex { $0.id == id }.map { state.waiting.remove(at: $0) }
      }
      cancelled?.continuation.resume(returning: false)
    }
    if !isBegun { throw CancellationError() }
  }

  /// The next one's turn begins at once.
  package func end() {
    let next = state.withLock { state in
      if state.waiting.isEmpty {
        state.isTaken = false
        return nil as CheckedContinuation<Bool, Never>?
      }
      return state.waiting.removeFirst().continuation
    }
    next?.resume(returning: true)
  }
}
