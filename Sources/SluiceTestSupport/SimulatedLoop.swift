import DequeModule
import SluiceStreams
import Synchronization

/// A loop with virtual time that runs on one thread: everything happens in the same order in every run, and an
/// hour passes in no time.
///
/// ```swift
/// let loop = SimulatedLoop()
/// try await loop.simulate {
///   let (client, server) = SimulatedNetwork(loop: loop).connection()
///   …
/// }
/// ```
package final class SimulatedLoop: Loop, @unchecked Sendable {
  // `inbox` and `runningThread` are for every thread, the rest for the simulating one.
  private enum Work {
    case job(UnownedJob)
    case closure(@Sendable () -> Void)
  }
  private let inbox = Mutex(Deque<Work>())
  private let runningThread = Atomic<UInt>(0)
  private var timers = TimerQueue()
  private var endOfTurnWork: [any EndOfTurn] = []
  package private(set) var now = Duration.zero
  package let scratch = ScratchBuffers(size: 4 << 10, keep: 4)
  package let locals = LoopLocals()

  package init() {}

  package var isCurrent: Bool { runningThread.load(ordering: .relaxed) == currentThread() }

  /// Timers that are neither due nor cancelled: what a leak shows in.
  package var openTimers: Int { timers.count }

  package func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    inbox.withLock { $0.append(.job(job)) }
  }

  package func execute(_ work: @escaping @Sendable () -> Void) {
    inbox.withLock { $0.append(.closure(work)) }
  }

  package func schedule(after delay: Duration, _ work: @escaping @Sendable () -> Void) -> LoopTimer {
    timers.add(deadline: now + delay.bounded, work)
  }

  package func cancelTimer(_ timer: LoopTimer) { timers.cancel(timer) }

  package func atEndOfTurn(_ work: any EndOfTurn) { endOfTurnWork.append(work) }

  /// Runs `body` on the loop until it has returned, moving time on whenever nothing is ready.
  /// - Throws: what `body` throws; `Stuck` if it waits for something that can't happen any more.
  package func simulate<R: Sendable>(_ body: @escaping @Sendable () async throws -> R) async throws -> R {
    try await onThread { try self.simulateHere(body) }
  }

  private func simulateHere<R: Sendable>(_ body: @escaping @Sendable () async throws -> R) throws -> R {
    let result = Mutex<Result<R, any Error>?>(nil)
    let done = Box(result: result)
    Task(executorPreference: self) {
      do {
        let value = try await body()
        done.set(.success(value))
      } catch {
        done.set(.failure(error))
      }
    }
    runningThread.store(currentThread(), ordering: .relaxed)
    defer { runningThread.store(0, ordering: .relaxed) }
    var idleRounds = 0
    while true {
      let didWork = turn()
      if let result = done.take() { return try result.get() }
      if didWork {
        idleRounds = 0
      } else if let next = timers.nextDeadline {
        now = max(now, next)
        fireTimers()
        idleRounds = 0
      } else {
        // Something may be on its way from another thread; real time is waited for only then.
        idleRounds += 1
        if idleRounds > 2000 { throw Stuck() }
        sleepOneMillisecond()
      }
    }
  }

  /// Nothing is ready and no timer is set, and the simulated task has not ended.
  package struct Stuck: Error {}

  private func turn() -> Bool {
    var didWork = false
    while let work = inbox.withLock({ $0.popFirst() }) {
      didWork = true
      switch work {
      case .job(let job): unsafe job.runSynchronously(on: asUnownedTaskExecutor())
      case .closure(let closure): closure()
      }
    }
    let flushing = endOfTurnWork
    endOfTurnWork = []
    for work in flushing { work.endOfTurn() }
    return didWork || !flushing.isEmpty
  }

  private func fireTimers() {
    while let work = timers.popDue(at: now) { work() }
  }

  private final class Box<R: Sendable>: Sendable {
    private let result: Mutex<Result<R, any Error>?>
    init(result: consuming Mutex<Result<R, any Error>?>) { self.result = result }
    func set(_ value: Result<R, any Error>) { result.withLock { $0 = value } }
    func take() -> Result<R, any Error>? { result.withLock { $0 } }
  }
}
