/// The simple gear of a polled readable stream, made of its polled gear.
extension PolledReadableStream {
  @inlinable
  public func read() async throws -> Output? {
    guard loop.isCurrent else {
      return try await withTaskExecutorPreference(loop) { try await readOnLoop() }
    }
    // What is ready is taken without suspending.
    switch try poll() {
    case .element(let element): return detach(element)
    case .end: return nil
    case .pending: return try await readOnLoop()
    }
  }

  @inlinable
  func readOnLoop() async throws -> Output? {
    while true {
      switch try poll() {
      case .element(let element): return detach(element)
      case .end: return nil
      case .pending:
        let waiter = LoopWaiter()
        try attachReader(waiter)
        defer { detachReader() }
        try await waiter.wait(on: loop)
      }
    }
  }
}

/// The simple gear of a polled writable stream, made of its polled gear.
extension PolledWritableStream {
  @inlinable
  public func write(_ element: Input) async throws {
    guard loop.isCurrent else {
      return try await withTaskExecutorPreference(loop) { try await writeOnLoop(element) }
    }
    if try hasRoom() {
      // The rest of the turn may write more: what is gathered leaves at its end.
      let isScheduled = needsFlush
      try push(element)
      if !isScheduled && needsFlush { loop.atEndOfTurn(self) }
      if try hasRoom() { return }
      flush()
      if try hasRoom() { return }
      return try await waitForRoom()
    }
    try await writeOnLoop(element)
  }

  @inlinable
  func writeOnLoop(_ element: Input) async throws {
    try await waitForRoom()
    try push(element)
    flush()
    try await waitForRoom()
  }

  public func close() async throws {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        loop.perform {
          self.closeWhenFlushed { error in
            if let error { continuation.resume(throwing: error) } else { continuation.resume() }
          }
        }
      }
    } onCancel: {
      abort(CancellationError())
    }
  }

  /// Suspends until the queue is below its watermark.
  @inlinable
  package func waitForRoom() async throws {
    while try !hasRoom() {
      let waiter = LoopWaiter()
      try attachWriter(waiter)
      defer { detachWriter() }
      try await waiter.wait(on: loop)
    }
  }
}

/// One task that waits, on a loop, for a stream to wake it; attached as the stream's reader or writer.
@usableFromInline
package final class LoopWaiter: Waker, @unchecked Sendable {  // touched on its loop only
  // The continuation is unchecked, as each read that waits pays for it. `finish` is the one place that resumes a waiting
  // one, and the state is `done` from then on.
  @safe private enum State {
    case idle
    case waiting(UnsafeContinuation<Void, any Error>)
    case done(cancelled: Bool)
  }
  private var state = State.idle

  @usableFromInline
  package init() {}

  /// Suspends the calling task, which runs on `loop`, until this is woken.
  /// - Throws: `CancellationError` when the task is cancelled.
  @usableFromInline
  package func wait(on loop: any Loop) async throws {
    try await withTaskCancellationHandler {
      try await unsafe withUnsafeThrowingContinuation { unsafe suspend($0) }
    } onCancel: {
      loop.perform { self.finish(cancelled: true) }
    }
  }

  @usableFromInline
  package func wake() { finish(cancelled: false) }

  private func suspend(_ continuation: UnsafeContinuation<Void, any Error>) {
    switch state {
    case .idle: unsafe state = .waiting(continuation)
    case .done(cancelled: true): unsafe continuation.resume(throwing: CancellationError())
    case .done(cancelled: false), .waiting: unsafe continuation.resume()
    }
  }

  private func finish(cancelled: Bool) {
    switch state {
    case .waiting(let continuation):
      state = .done(cancelled: cancelled)
      if cancelled {
        unsafe continuation.resume(throwing: CancellationError())
      } else {
        unsafe continuation.resume()
      }
    case .idle: state = .done(cancelled: cancelled)
    case .done: break
    }
  }
}
