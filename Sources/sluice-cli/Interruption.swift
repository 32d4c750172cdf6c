import Sluice
import SluiceIO
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// SIGINT, SIGTERM and SIGHUP, unless that is ignored as under `nohup`: the first ends everything in order, what is opened later too; the second
/// at once.
final class Interruption: Sendable {
  private struct State {
    var nextID = 0
    var actions: [Int: @Sendable () -> Void] = [:]
    var count = 0
  }
  private let state = Mutex(State())

  func watch() {
    let signals = Signals([.interrupt, .terminate] + (Signal.hangUp.isIgnored ? [] : [.hangUp]))
    Task {
      for try await signal in signals { interrupt(by: signal) }
    }
  }

  private func interrupt(by signal: Signal) {
    let (actions, count) = state.withLock { state in
      state.count += 1
      return (Array(state.actions.values), state.count)
    }
    // With nothing open there is nothing to end in order.
    // Not `exit`, which waits for what reads a file.
    if count > 1 || actions.isEmpty {
      PassedTerminal.restore()
      _exit(128 + signal.number)
    }
    for action in actions { action() }
  }

  /// - Parameter action: Is called at the first signal; at once if that has come already.
  /// - Returns: what `remove` takes.
  func add(_ action: @escaping @Sendable () -> Void) -> Int {
    let (id, isLate) = state.withLock { state in
      state.nextID += 1
      state.actions[state.nextID] = action
      return (state.nextID, state.count > 0)
    }
    if isLate { action() }
    return id
  }

  /// Runs what may take its time, such as a handshake, and cancels it at the first signal.
  func cancelling<Result: Sendable>(
    _ body: @escaping @Sendable () async throws -> Result
  ) async throws -> Result {
    let task = Task(executorPreference: UVLoop.shared) { try await body() }
    let id = add { task.cancel() }
    defer { remove(id) }
    return try await task.value
  }

  func remove(_ id: Int) {
    state.withLock { $0.actions[id] = nil }
  }
}
