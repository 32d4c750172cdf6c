import SluiceStreams

/// The ways in which ordinary code cancels a task that waits.
package enum Cancelling: CaseIterable, Sendable {
  /// `cancel()` of an unstructured task.
  case task
  /// `cancelAll()` of a task group.
  case group
  /// A time limit that cancels the task that it is for.
  case ownTask

  /// Runs `body`, and cancels it after a while.
  /// - Returns: what it threw. The calling task is cancelled from then on if this is `ownTask`.
  package func cancel(
    after time: Duration = .milliseconds(50), _ body: @escaping @Sendable () async throws -> Void
  ) async -> (any Error)? {
    switch self {
    case .task:
      let task = Task { await failure(of: body) }
      try? await pause(for: time)
      task.cancel()
      return await task.value
    case .group:
      return await withTaskGroup(of: (any Error)?.self) { group in
        group.addTask { await failure(of: body) }
        try? await pause(for: time)
        group.cancelAll()
        return await group.next() ?? nil
      }
    case .ownTask:
      let own = OwnTask()
      let limit = Task {
        try await pause(for: time)
        own.cancel()
      }
      defer { limit.cancel() }
      return await failure(of: body)
    }
  }
}

private func failure(of body: () async throws -> Void) async -> (any Error)? {
  do { try await body() } catch { return error }
  return nil
}

/// The task that makes this, as long as it runs.
@safe private struct OwnTask: @unchecked Sendable {  // a task can be cancelled from everywhere
  private let task: UnsafeCurrentTask?

  init() { unsafe task = withUnsafeCurrentTask { unsafe $0 } }

  func cancel() { unsafe task?.cancel() }
}
