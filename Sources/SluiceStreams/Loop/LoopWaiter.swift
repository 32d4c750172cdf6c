/// One task that waits, on a loop, for a stream to wake it; attached as the stream's reader or writer.
@usableFromInline
package final class LoopWaiter: UnguardedWait, @unchecked Sendable {  // touched on its loop only
  // The continuation is unchecked, as each read that waits pays for it. `finish` is the one place that resumes a waiting
  // one, and the state is `done` from then on.
  @safe private enum State {
    case idle
    case waiting(UnsafeContinuation<Bool, Never>)
    case done(cancelled: Bool)
  }
  @safe @exclusivity(unchecked) private var state = State.idle
  @safe @exclusivity(unchecked) @usableFromInline package var isUnguarded = false

  @usableFromInline
  package init() {}

  /// Suspends the calling task, which runs on `loop`, until this is woken.
  /// - Throws: `CancellationError` when the task is cancelled.
  package nonisolated(nonsending) func wait(on loop: any Loop) async throws {
    if await waitOrCancel(on: loop) { throw CancellationError() }
  }

  /// Suspends the calling task, which runs on `loop`, until this is woken. Inlined, because a task that waits holds the memory of its frames.
  /// - Returns: whether the task was cancelled instead.
  @inlinable
  @inline(__always)
  package nonisolated(nonsending) func waitOrCancel(on loop: any Loop) async -> Bool {
    await withTaskCancellationHandler {
      await unsafe withUnsafeContinuation { unsafe suspend($0) }
    } onCancel: {
      loop.perform { self.finish(cancelled: true) }
    }
  }

  @usableFromInline
  package func wakeReader() { finish(cancelled: false) }
  @usableFromInline
  package func wakeWriter() { finish(cancelled: false) }

  package func wake() { finish(cancelled: false) }

  /// Makes it ready for another wait. Nothing waits with it now.
  @usableFromInline
  package func renew() { state = .idle }

  /// Until this is woken, or finished: a cancellation handler of the caller's sees to that.
  @usableFromInline
  package func suspend(_ continuation: UnsafeContinuation<Bool, Never>) {
    switch state {
    case .idle: unsafe state = .waiting(continuation)
    case .done(let cancelled):
      Reached.mark("waiter.wokenBeforeWait")
      unsafe continuation.resume(returning: cancelled)
    case .waiting: unsafe continuation.resume(returning: false)
    }
  }

  @usableFromInline
  package func cancelWait() { finish(cancelled: true) }

  @usableFromInline
  package func finish(cancelled: Bool) {
    switch state {
    case .waiting(let continuation):
      state = .done(cancelled: cancelled)
      unsafe continuation.resume(returning: cancelled)
    case .idle: state = .done(cancelled: cancelled)
    case .done: break
    }
  }
}
