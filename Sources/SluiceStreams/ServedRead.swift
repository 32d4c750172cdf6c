import CSluiceRuntime

// Reading in the task that a server runs for a connection. It has one cancellation handler for all of its waits: one for each was measured at
// 0.25 µs (docs/DESIGN.md). Any other task reads as everywhere.

/// A stream that a server runs a task for.
@usableFromInline
package protocol ServedStream: ReaderHolding {
  /// The task that is in the server's handler; nobody's while there is none.
  var servingIdentity: TaskIdentity { get set }

  /// A task begins to wait that has not polled: this is dry.
  func willWaitWhileDry()

  /// An element that is there, for whoever is on the loop and may read, independent of the loop's buffers; nil if that is not known without a poll.
  func takeReady() throws -> Output?
}

extension ServedStream {
  /// Runs a server's handler in the calling task, on the loop. Whoever cancels that task ends its wait.
  // Inlined, because an idle connection holds the memory of its task's frames.
  @inlinable
  @inline(__always)
  package nonisolated(nonsending) func whileServed(_ handler: @Sendable (Self) async throws -> Void) async throws {
    servingIdentity = CurrentTask().identity
    try await withTaskCancellationHandler {
      try await handler(self)
    } onCancel: {
      // Later, because this may come from inside of a pipe's work, while its waker is not in its place.
      loop.execute { self.endServedWait() }
    }
  }

  /// The task was cancelled.
  @usableFromInline
  package func endServedWait() {
    if let wait = withReader({ $0.waker }) as? any UnguardedWait, wait.isUnguarded { wait.cancelWait() }
  }

  /// Whether the server's own task is the calling one: then its wait needs no cancellation handler, and is over already if the task was cancelled.
  @inlinable
  @inline(never)
  package func waitsUnguarded(_ wait: any UnguardedWait) -> Bool {
    let current = CurrentTask()
    guard current.identity == servingIdentity else { return false }
    wait.isUnguarded = true
    if current.isCancelled { wait.cancelWait() }
    return true
  }

  @inlinable
  public nonisolated(nonsending) func read() async throws -> Output? {
    while true {
      switch try beginRead() {
      case .element(let element): return element
      case .end: return nil
      case .waiting(let waiter):
        let isCancelled =
          waitsUnguarded(waiter)
          ? await unsafe withUnsafeContinuation { unsafe waiter.suspend($0) } : await waitOrCancel(waiter)
        if !endWaiting() { await detachReaderOnLoop() }
        if isCancelled { throw CancellationError() }
      case .elsewhere: return try await readOnLoop()
      }
    }
  }

  /// Apart, because a server's own task holds the memory of the frame of `read`, and does not wait so.
  @inlinable
  @inline(never)
  nonisolated(nonsending) func waitOrCancel(_ waiter: LoopWaiter) async -> Bool {
    await waiter.waitOrCancel(on: loop)
  }

  /// For `for try await`: reads as `read` does. In the handler that a server runs it waits for an element at the least cost.
  @inlinable
  public func makeAsyncIterator() -> ReadableStreamIterator<Output> {
    ReadableStreamIterator(stream: self) { try self.beginServedRead($0, after: $1) }
  }

  /// The beginning of a read, and the end of the wait before it, for the server's own task; any other task is left to `read`.
  @inlinable
  func beginServedRead(_ spare: LoopWaiter?, after wait: ReadWait) throws -> ServedReadStep<Output> {
    if wait == .none, let element = try takeReady() { return .element(element) }
    guard isOnLoop else {
      // The task gets there behind this, if it goes there.
      if wait != .none { loop.execute { self.detachReader() } }
      if wait == .cancelled { throw CancellationError() }
      return .mustRead
    }
    if wait != .none { detachReader() }
    if wait == .cancelled { throw CancellationError() }
    if servingIdentity == .nobody { return .mustRead }
    if hasReader { throw StreamError.concurrentRead }
    // Most often the task has just answered the only message that there was.
    if wait == .none, isDry {
      willWaitWhileDry()
    } else {
      switch try poll() {
      case .element(let element): return .element(detach(element))
      case .end: return .end
      case .pending: break
      }
    }
    let current = CurrentTask()
    guard current.identity == servingIdentity else { return .mustRead }
    if current.isCancelled { throw CancellationError() }
    if let spare {
      spare.renew()
      try withReader { try $0.attach(spare) }
      return .waiting(nil)
    }
    let waiter = LoopWaiter()
    waiter.isUnguarded = true
    try withReader { try $0.attach(waiter) }
    return .waiting(waiter)
  }
}

/// A reader that may be waited for without a cancellation handler of the wait's own.
@usableFromInline
package protocol UnguardedWait: Waker {
  /// Whether the task has no cancellation handler for this wait, but one for all of its waits.
  var isUnguarded: Bool { get set }

  /// Ends the wait of a task that was cancelled. On the loop.
  func cancelWait()
}

/// What the beginning of a read comes to, where the task may be one that waits without a cancellation handler.
@usableFromInline
package enum ServedReadStep<Element> {
  case element(Element)
  case end
  /// Nothing is ready: the waiter, or the spare one if this is nil, is attached.
  case waiting(LoopWaiter?)
  /// Nothing was done: the task is to call `read`.
  case mustRead
}

/// How a task has waited for an element.
@usableFromInline
package enum ReadWait {
  case none, woken, cancelled
}

/// Tells a task from every other that has not ended.
@usableFromInline
package struct TaskIdentity: Equatable, Sendable {
  private let address: UInt

  fileprivate init(address: UInt) { self.address = address }

  @usableFromInline package static var nobody: TaskIdentity { TaskIdentity(address: 0) }
  package init() { self = .nobody }

  @usableFromInline
  package static func == (left: TaskIdentity, right: TaskIdentity) -> Bool { left.address == right.address }
}

/// The calling task, by functions of Swift's runtime. `withUnsafeCurrentTask` counts references: with it, to compare a task with the calling one and
/// to ask whether that is cancelled took 75 ns.
@safe @usableFromInline
package struct CurrentTask {
  private let task: UnsafeMutableRawPointer?

  /// As long as it does not end.
  @usableFromInline
  package init() { unsafe task = sluice_current_task() }

  /// Nobody's if there is no task.
  @usableFromInline package var identity: TaskIdentity { unsafe TaskIdentity(address: UInt(bitPattern: task)) }

  @usableFromInline package var isCancelled: Bool { unsafe task.map { unsafe sluice_is_cancelled($0) } ?? false }
}
