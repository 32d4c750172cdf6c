// The simple gear of polled streams, made of their polled gear.
//
// Its functions run where their caller does: a handler whose task prefers the loop reads and writes without a switch of
// executors. Whatever a caller's executor is, a stream is touched on its loop only: a function asks `isCurrent` when it begins
// and again when it has waited, as a task may begin on a loop's thread (`Task.immediate`) and go on elsewhere.

extension PolledReadableStream {
  // A task that waits here holds the memory of this frame: what need not be in it is done by functions of their own.
  @inlinable
  @inline(__always)
  public nonisolated(nonsending) func read() async throws -> Output? {
    while true {
      switch try beginRead() {
      case .element(let element): return element
      case .end: return nil
      case .waiting(let waiter):
        let isCancelled = await withTaskCancellationHandler {
          await unsafe withUnsafeContinuation { unsafe waiter.suspend($0) }
        } onCancel: {
          stopWaiting(waiter)
        }
        if !endWaiting() { await detachReaderOnLoop() }
        if isCancelled { throw CancellationError() }
      case .elsewhere: return try await readOnLoop()
      }
    }
  }

  /// What is ready is taken without suspending.
  @inlinable
  @inline(never)
  package func beginRead() throws -> ReadStep<Output> {
    guard isOnLoop else { return .elsewhere }
    if hasReader { throw StreamError.concurrentRead }
    switch try poll() {
    case .element(let element): return .element(detach(element))
    case .end: return .end
    case .pending:
      let waiter = LoopWaiter()
      try attachReader(waiter)
      return .waiting(waiter)
    }
  }

  @usableFromInline
  func stopWaiting(_ waiter: LoopWaiter) { loop.perform { waiter.finish(cancelled: true) } }

  /// - Returns: false if the task has gone on elsewhere than on the loop.
  @inlinable
  @inline(never)
  package func endWaiting() -> Bool {
    guard isOnLoop else { return false }
    detachReader()
    return true
  }

  @inlinable
  @inline(never)
  package nonisolated(nonsending) func detachReaderOnLoop() async { await loop.runAnywhere { detachReader() } }

  @inlinable
  @inline(never)
  package nonisolated(nonsending) func readOnLoop() async throws -> Output? {
    try await withTaskExecutorPreference(loop) { @concurrent () async throws in try await read() }
  }
}

/// What the beginning of a read comes to.
@usableFromInline
package enum ReadStep<Element> {
  case element(Element)
  case end
  /// Nothing is ready: the waiter is attached.
  case waiting(LoopWaiter)
  /// The caller does not run on the loop.
  case elsewhere
}

/// What the beginning of a write comes to.
@usableFromInline
enum WriteStep {
  /// The element was taken, and there is room for the next.
  case done
  /// The element was taken, and there is no room any more.
  case full
  /// The element was not taken.
  case noRoom
  /// The caller does not run on the loop.
  case elsewhere
}

extension PolledWritableStream {
  @inlinable
  @inline(__always)
  public nonisolated(nonsending) func write(_ element: Input) async throws {
    while true {
      switch try beginWrite(element) {
      case .done: return
      case .full: return try await waitForRoomAfterWrite()
      case .noRoom: try await waitForRoomOnce()
      case .elsewhere: return try await writeOnLoop(element)
      }
    }
  }

  /// What there is room for is taken without suspending.
  @inlinable
  @inline(never)
  func beginWrite(_ element: Input) throws -> WriteStep {
    guard isOnLoop else { return .elsewhere }
    guard try hasRoom() else { return .noRoom }
    try push(element)
    if try hasRoom() { return .done }
    // What was gathered in this turn may be all that there is no room for.
    flush()
    return .full
  }

  /// The element was taken: a cancellation, and our own close, which flushes it, end the waiting without an error.
  @inlinable
  @inline(never)
  nonisolated(nonsending) func waitForRoomAfterWrite() async throws {
    do { try await waitForRoom() } catch is CancellationError {} catch StreamError.closed {}
  }

  @inlinable
  @inline(never)
  nonisolated(nonsending) func writeOnLoop(_ element: Input) async throws {
    try await withTaskExecutorPreference(loop) { @concurrent () async throws in try await write(element) }
  }

  /// Suspends until the queue is below its watermark. On the loop.
  @inlinable
  @inline(never)
  package nonisolated(nonsending) func waitForRoom() async throws {
    while try isOnLoop && !hasRoom() { try await waitForRoomOnce() }
  }

  /// Suspends until there may be room. On the loop.
  @inlinable
  @inline(never)
  nonisolated(nonsending) func waitForRoomOnce() async throws {
    let waiter = LoopWaiter()
    try attachWriter(waiter)
    let isCancelled = await waiter.waitOrCancel(on: loop)
    if isOnLoop { detachWriter() } else { await loop.runAnywhere { detachWriter() } }
    if isCancelled { throw CancellationError() }
  }

  public func close() async throws {
    try await closing { self.closeWhenFlushed($0) }
  }

  public func close(after failure: any Error) async throws {
    try await closing { self.closeWhenFlushed(after: failure, $0) }
  }

  private func closing(_ begin: @escaping @Sendable (@escaping @Sendable ((any Error)?) -> Void) -> Void) async throws {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        loop.perform {
          begin { error in
            if let error { continuation.resume(throwing: error) } else { continuation.resume() }
          }
        }
      }
    } onCancel: {
      abort(CancellationError())
    }
  }
}
