import Synchronization

/// The outcome of one piece of work, for any number of tasks that wait for it.
package final class SharedResult<Value: Sendable>: Sendable {
  private enum State {
    case pending([Int: CheckedContinuation<Void, Never>], next: Int)
    case done(Result<Value, any Error>)
  }
  private let state = Mutex(State.pending([:], next: 0))

  package init() {}

  package func finish(_ result: Result<Value, any Error>) {
    let waiting = state.withLock { state -> [Int: CheckedContinuation<Void, Never>] in
      guard case .pending(let waiting, _) = state else { return [:] }
      state = .done(result)
      return waiting
    }
    for continuation in waiting.values { continuation.resume() }
  }

  /// - Throws: what the work failed with; `CancellationError` when the calling task is cancelled: the work goes on.
  package nonisolated(nonsending) func value() async throws -> Value {
    let number = state.withLock { state -> Int in
      guard case .pending(let waiting, let next) = state else { return 0 }
      state = .pending(waiting, next: next + 1)
      return next
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let mustWait = state.withLock { state in
          guard case .pending(var waiting, let next) = state, !Task.isCancelled else { return false }
          waiting[number] = continuation
          state = .pending(waiting, next: next)
          return true
        }
        if !mustWait { continuation.resume() }
      }
    } onCancel: {
      let continuation = state.withLock { state -> CheckedContinuation<Void, Never>? in
        guard case .pending(var waiting, let next) = state else { return nil }
        let continuation = waiting.removeValue(forKey: number)
        state = .pending(waiting, next: next)
        return continuation
      }
      continuation?.resume()
    }
    if case .done(let result) = state.withLock({ $0 }) { return try result.get() }
    throw CancellationError()
  }
}
