/// The simple gear of a polled readable stream, made of its polled gear.
extension PolledReadableStream {
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

  private func readOnLoop() async throws -> Output? {
    while true {
      switch try poll() {
      case .element(let element): return detach(element)
      case .end: return nil
      case .pending: try await LoopWaiter.wait(on: loop, attach: attachReader, detach: detachReader)
      }
    }
  }
}

/// The simple gear of a polled writable stream, made of its polled gear.
extension PolledWritableStream {
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

  private func writeOnLoop(_ element: Input) async throws {
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
  package func waitForRoom() async throws {
    while try !hasRoom() {
      try await LoopWaiter.wait(on: loop, attach: attachWriter, detach: detachWriter)
    }
  }
}

/// One task that waits, on a loop, for a stream to wake it.
package final class LoopWaiter: Waker, @unchecked Sendable {  // touched on its loop only
  private enum State {
    case idle
    case waiting(CheckedContinuation<Void, any Error>)
    case done(cancelled: Bool)
  }
  private var state = State.idle

  private init() {}

  /// Suspends the calling task, which runs on `loop`, until the waker that it attaches is woken.
  /// - Throws: `CancellationError` when the task is cancelled, and what `attach` throws.
  package static func wait(
    on loop: any Loop, attach: (any Waker) throws -> Void, detach: () -> Void
  ) async throws {
    let waiter = LoopWaiter()
    try attach(waiter)
    defer { detach() }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { waiter.suspend($0) }
    } onCancel: {
      loop.perform { waiter.finish(cancelled: true) }
    }
  }

  package func wake() { finish(cancelled: false) }

  private func suspend(_ continuation: CheckedContinuation<Void, any Error>) {
    switch state {
    case .idle: state = .waiting(continuation)
    case .done(cancelled: true): continuation.resume(throwing: CancellationError())
    case .done(cancelled: false), .waiting: continuation.resume()
    }
  }

  private func finish(cancelled: Bool) {
    switch state {
    case .waiting(let continuation):
      state = .done(cancelled: cancelled)
      if cancelled { continuation.resume(throwing: CancellationError()) } else { continuation.resume() }
    case .idle: state = .done(cancelled: cancelled)
    case .done: break
    }
  }
}
