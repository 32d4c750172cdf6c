/// A thread that waits for events and runs callbacks and tasks, one at a time.
///
/// Streams live on a loop: their polled gear is called on it only. A task that prefers the loop as its executor reads
/// and writes its streams without a hop.
///
/// # The state of what lives on a loop
///
/// It is touched on the loop only: no two threads meet in it. What is read or written for each message is marked
/// `@safe @exclusivity(unchecked)`, because checking at run time that no access begins inside of another one costs more than the
/// framing does. That none does is to be seen: such a property is a plain value, or one whose methods call nobody who could come
/// back to it (frame decoders, queues, watermarks). Keep it so.
public protocol Loop: TaskExecutor, AnyObject {
  /// Whether the caller runs on this loop now.
  var isCurrent: Bool { get }

  /// Time since some fixed moment; never goes back. On a simulated loop it stands still until the test moves it.
  /// May be called on the loop only.
  var now: Duration { get }

  /// What `now` was when this turn of the loop was first asked for it: for what happens often and need not be known to the millisecond, since reading
  /// the clock takes as long as half of a short message. On the loop only. Default: `now`.
  var timeOfTurn: Duration { get }

  /// Runs `work` on the loop soon. From any thread; in order for each caller.
  func execute(_ work: @escaping @Sendable () -> Void)

  /// Runs `work` once, after `delay`. On the loop only.
  /// - Returns: what `cancelTimer` takes.
  func schedule(after delay: Duration, _ work: @escaping @Sendable () -> Void) -> LoopTimer
  func cancelTimer(_ timer: LoopTimer)

  /// Calls `work.endOfTurn()` once, when the callbacks and tasks that are ready now have run. On the loop only.
  func atEndOfTurn(_ work: any EndOfTurn)

  /// Memory for output that is gathered and handed on within one turn of the loop. On the loop only.
  var scratch: ScratchBuffers { get }

  /// What the streams of this loop share. On the loop only.
  var locals: LoopLocals { get }
}

/// Names a timer that was scheduled on a loop.
public struct LoopTimer: Hashable, Sendable {
  /// The loop's number for it, which it gives once.
  public let id: UInt64
  /// When it is due, as `now` counts.
  public let deadline: Duration

  /// For a loop's `schedule`.
  public init(id: UInt64, deadline: Duration) {
    self.id = id
    self.deadline = deadline
  }
}

/// Work that gathers during a turn of the loop and is done once at its end: flushing what was written.
public protocol EndOfTurn: AnyObject, Sendable {
  func endOfTurn()
}

extension Loop {
  public var timeOfTurn: Duration { now }

  /// Runs `work` on the loop: at once if the caller is on it, soon otherwise.
  public func perform(_ work: @escaping @Sendable () -> Void) {
    if isCurrent { work() } else { execute(work) }
  }

  /// Runs `body` on the loop, and waits for it wherever the caller runs.
  @usableFromInline
  func runAnywhere(_ body: @escaping @Sendable () -> Void) async {
    await withCheckedContinuation { continuation in
      perform {
        body()
        continuation.resume()
      }
    }
  }

  /// Runs `body` on the loop and returns its result.
  public func run<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
    try await withCheckedThrowingContinuation { continuation in
      perform { continuation.resume(with: Result { try body() }) }
    }
  }

  /// `now`, for who may run elsewhere.
  package func currentTime() async -> Duration {
    await withCheckedContinuation { continuation in
      perform { continuation.resume(returning: self.now) }
    }
  }

  /// Suspends the calling task for a time of this loop's clock.
  /// - Throws: `CancellationError` when the task is cancelled.
  public func sleep(for time: Duration) async throws {
    try await withTaskExecutorPreference(self) {
      let waiter = LoopWaiter()
      let timer = schedule(after: time) { waiter.wake() }
      defer { cancelTimer(timer) }
      try await waiter.wait(on: self)
    }
  }
}
