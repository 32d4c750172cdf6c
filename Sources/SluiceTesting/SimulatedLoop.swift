import DequeModule
import SluiceStreams
import Synchronization

/// A loop with virtual time that runs on one thread: everything happens in the same order in every run, and an
/// hour passes in no time.
///
/// ```swift
/// try await SimulatedLoop.run { loop in
///   let (client, server) = try await WebSocket.pair()
///   try await loop.sleep(for: .seconds(3600))
/// }
/// ```
/// What lives on the loop has its time: timeouts, pings, `loop.sleep(for:)`, and so have pipes and bridges that the simulated task begins.
/// `Task.sleep` has not.
public final class SimulatedLoop: Loop, @unchecked Sendable {
  // `inbox` and `runningThread` are for every thread, the rest for the simulating one.
  private enum Work {
    case job(UnownedJob)
    case closure(@Sendable () -> Void)
  }
  private let inbox = Mutex(Deque<Work>())
  private let runningThread = Atomic<UInt>(0)
  private var timers = TimerQueue()
  private var endOfTurnWork: [any EndOfTurn] = []
  public private(set) var now = Duration.zero
  /// Jobs that have run since time has moved.
  private var jobsAtOneTime = 0
  /// Beyond these it never moves again: several seconds of work.
  package var maxJobsAtOneTime = 10_000_000
  public let scratch = ScratchBuffers(size: 4 << 10, keep: 4)
  public let locals = LoopLocals()

  /// The loop that the calling task is simulated on.
  public static var current: SimulatedLoop? { AmbientLoop.current as? SimulatedLoop }

  /// Picks which of the ready jobs runs next; nil: the one that became ready first.
  private var scheduler: SeededGenerator?

  /// - Parameter seed: Where tasks that are ready run in an order of their own, and not in that in which they became ready: what decides it. What
  ///   `execute` was given keeps its order, which it promises.
  public init(permutingTasksBy seed: UInt64? = nil) { scheduler = seed.map { SeededGenerator(seed: $0) } }

  /// Runs `body` on a loop of its own: see `simulate`.
  public static func run<R: Sendable>(
    _ body: @escaping @Sendable (SimulatedLoop) async throws -> R
  ) async throws -> R {
    let loop = SimulatedLoop()
    return try await loop.simulate { try await body(loop) }
  }

  public var isCurrent: Bool { runningThread.load(ordering: .relaxed) == currentThread() }

  /// Timers that are neither due nor cancelled: what a leak shows in.
  public var openTimers: Int { timers.count }

  public func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    inbox.withLock { $0.append(.job(job)) }
  }

  public func execute(_ work: @escaping @Sendable () -> Void) {
    inbox.withLock { $0.append(.closure(work)) }
  }

  public func schedule(after delay: Duration, _ work: @escaping @Sendable () -> Void) -> LoopTimer {
    timers.add(deadline: now + delay.bounded, work)
  }

  public func cancelTimer(_ timer: LoopTimer) { timers.cancel(timer) }

  public func atEndOfTurn(_ work: any EndOfTurn) { endOfTurnWork.append(work) }

  /// Runs `body` on the loop until it has returned, moving time on whenever nothing is ready.
  /// - Throws: what `body` throws; `Stuck` if it waits for something that can't happen any more.
  public func simulate<R: Sendable>(_ body: @escaping @Sendable () async throws -> R) async throws -> R {
    try await onThread { try self.simulateHere(body) }
  }

  /// The same on the calling thread, which runs nothing else meanwhile.
  package func simulateHere<R: Sendable>(_ body: @escaping @Sendable () async throws -> R) throws -> R {
    let result = Mutex<Result<R, any Error>?>(nil)
    let done = Box(result: result)
    AmbientLoop.$current.withValue(self) {
      _ = Task(executorPreference: self) {
        do {
          let value = try await body()
          done.set(.success(value))
        } catch {
          done.set(.failure(error))
        }
      }
    }
    runningThread.store(currentThread(), ordering: .relaxed)
    defer { runningThread.store(0, ordering: .relaxed) }
    var idleRounds = 0
    while true {
      let didWork = try turn()
      if let result = done.take() { return try result.get() }
      if didWork {
        idleRounds = 0
      } else if let next = timers.nextDeadline {
        if next > now {
          now = next
          jobsAtOneTime = 0
        }
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

  /// The simulated task has not ended, and never will: nothing is ready and no timer is set, or tasks run on and on without time passing.
  public struct Stuck: Error {}

  private func turn() throws(Stuck) -> Bool {
    var didWork = false
    while let work = nextWork() {
      didWork = true
      jobsAtOneTime += 1
      if jobsAtOneTime > maxJobsAtOneTime { throw Stuck() }
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

  private func nextWork() -> Work? {
    inbox.withLock { work in
      guard work.count > 1, scheduler != nil else { return work.popFirst() }
      let index = Int.random(in: 0..<work.count, using: &scheduler!)
      if case .job = work[index] { return work.remove(at: index) }
      let first = work.firstIndex { if case .closure = $0 { true } else { false } }
      return first.map { work.remove(at: $0) }
    }
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
