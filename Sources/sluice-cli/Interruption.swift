import Sluice
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// SIGINT and SIGTERM: the first ends everything in order, the second at once.
final class Interruption: Sendable {
  private struct State {
    var nextID = 0
    var actions: [Int: @Sendable () -> Void] = [:]
    var count = 0
  }
  private let state = Mutex(State())

  func watch() {
    let signals = Signals([.interrupt, .terminate])
    Task {
      for try await _ in signals { interrupt() }
    }
  }

  private func interrupt() {
    let (actions, count) = state.withLock { state in
      state.count += 1
      return (Array(state.actions.values), state.count)
    }
    if count > 1 { exit(ExitStatus.interrupted.rawValue) }
    if actions.isEmpty { exit(128 + SIGINT) }
    for action in actions { action() }
  }

  /// - Parameter action: Is called at the first signal.
  /// - Returns: what `remove` takes.
  func add(_ action: @escaping @Sendable () -> Void) -> Int {
    state.withLock { state in
      state.nextID += 1
      state.actions[state.nextID] = action
      return state.nextID
    }
  }

  func remove(_ id: Int) {
    state.withLock { $0.actions[id] = nil }
  }
}
