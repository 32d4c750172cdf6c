import DequeModule
import Synchronization

/// Tasks that wait for something that there is a limited amount of, first come, first served.
package final class WaitingLine: Sendable {
  private struct State {
    var waiting = Deque<(number: Int, continuation: CheckedContinuation<Void, Never>)>()
    var given: Set<Int> = []
    var next = 0
    /// How much of it is free.
    var free: Int

    mutating func take() -> Bool {
      guard free > 0, waiting.isEmpty else { return false }
      free -= 1
      return true
    }
  }
  private let state: Mutex<State>

  /// - Parameter free: 1 or more.
  package init(_ free: Int) { state = Mutex(State(free: max(free, 1))) }

  /// Takes one, and waits until there is one.
  /// - Throws: `CancellationError`; nothing was taken then.
  package nonisolated(nonsending) func enter() async throws {
    try Task.checkCancellation()
    let number = state.withLock { state -> Int? in
      if state.take() { return nil }
      state.next += 1
      return state.next
    }
    guard let number else { return }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isDone = state.withLock { state in
          if Task.isCancelled { return true }
          // One may have been given back in between.
          if state.take() {
            state.given.insert(number)
            return true
          }
          state.waiting.append((number, continuation))
          return false
        }
        if isDone { continuation.resume() }
      }
    } onCancel: {
      let continuation = state.withLock { state -> CheckedContinuation<Void, Never>? in
        guard let index = state.waiting.firstIndex(where: { $0.number == number }) else { return nil }
        return state.waiting.remove(at: index).continuation
      }
      continuation?.resume()
    }
    let wasGiven = state.withLock { $0.given.remove(number) != nil }
    if !wasGiven { throw CancellationError() }
  }

  /// Gives one back: to the first who waits.
  package func leave() {
    let next = state.withLock { state -> CheckedContinuation<Void, Never>? in
      guard let first = state.waiting.popFirst() else {
        state.free += 1
        return nil
      }
      state.given.insert(first.number)
      return first.continuation
    }
    next?.resume()
  }
}
