/// The loop that a whole task tree runs by, where one was named: a simulation, in which no time passes by itself and nothing runs on threads of its own.
package enum AmbientLoop {
  @TaskLocal package static var current: (any Loop)?
}

/// Starts an unstructured task: on the ambient loop, if there is one, otherwise on the global executor.
package func startTask<Success: Sendable>(
  _ body: @escaping @Sendable () async throws -> Success
) -> Task<Success, any Error> {
  Task(executorPreference: AmbientLoop.current) { try await body() }
}

/// Suspends the calling task for a time of any size (`Task.sleep` ends the process for some): of the ambient loop's clock, if there is one, otherwise of
/// the system's.
/// - Throws: `CancellationError` when the task is cancelled.
package func pause(for time: Duration) async throws {
  if let loop = AmbientLoop.current { try await loop.sleep(for: time) } else { try await Task.sleep(for: time.bounded) }
}
