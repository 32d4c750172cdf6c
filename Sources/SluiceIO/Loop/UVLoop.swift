import CSluiceSystem
import CSluiceUV
import DequeModule
import SluiceStreams
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// An event loop on a thread of its own. It is a task executor: tasks that prefer it run on its thread.
///
/// libuv does what is its own (files, names, processes, signals); sockets, pipes and terminals are waited for by `Poller`.
///
/// ```swift
/// let loop = UVLoop.shared
/// let socket = try await TCP.connect("127.0.0.1", port: 7, on: loop)
/// ```
///
/// A loop that was stopped can still be used: its tasks and the streams that lived on it go on, on the thread of the shared
/// loop, so that whoever waits is answered.
@safe public final class UVLoop: Loop, @unchecked Sendable {
  // `inbox` and `owner` are for every thread; everything else is touched on the loop's thread only, and on the shared loop's
  // thread once this one's has ended.
  private let inbox = Mutex(Inbox())
  private let owner = Atomic<UInt>(Owner.nobody)
  #if SANITIZED
    /// The inbox's lock once more, where ThreadSanitizer sees it.
    private let handover = Atomic<Int>(0)
  #endif
  private let name: String
  private let isShared: Bool
  private let uv: UnsafeMutablePointer<uv_loop_t>
  private let poller = Poller()

  @safe @exclusivity(unchecked) private var ready = Deque<Work>()
  @safe @exclusivity(unchecked) private var turnEnd = TurnEnd()
  private var timers = TimerQueue()
  /// The first of the timers; to be found anew when `timersChanged`.
  private var nextDeadline: Duration?
  private var timersChanged = false
  /// Rounds in which timers were due and did not fire.
  private var roundsDeferred = 0
  /// `timeOfTurn`, once it was asked for in this turn.
  @safe @exclusivity(unchecked) private var knownTime: Duration?
  /// Whether something was begun or ended on libuv, so that it has to run before anything is waited for.
  private var isLibuvTouched = true
  @safe @exclusivity(unchecked) private var depth = 0
  private var phase = Phase.running
  /// The shared loop only: whether its thread is to leave it to another, and that thread if the loop has started it.
  var isThreadLeaving = false
  private var ownThread: pthread_t?
  @safe @exclusivity(unchecked) package var readBuffer = ReadBuffer()
  public let scratch = ScratchBuffers()
  public let locals = LoopLocals()

  /// The loop that is used where none is named; started at its first use, and never stopped.
  ///
  /// Where the process has no descriptors left for it then, it runs tasks and timers all the same; what is opened on it throws `IOError` (EMFILE)
  /// until there are some.
  public static let shared = UVLoop()

  /// Who the loop's owner is, when it is not a thread's id.
  private enum Owner {
    static let nobody: UInt = 0
    /// The thread has ended: the shared loop runs what still comes.
    static let sharedLoop: UInt = 1
  }

  private enum Phase {
    case running
    /// Nothing new begins, and the thread ends when nothing is left.
    case stopped
    /// The thread has ended. What timers are left are waited for by one of the shared loop.
    case ended(LoopTimer?)
  }

  fileprivate enum Work {
    case job(UnownedJob)
    case closure(@Sendable () -> Void)
  }

  fileprivate struct Inbox {
    var work: [Work] = []
    /// Whether the poller was woken and does not know yet: for each time that this becomes true it is woken once, so that none is
    /// under way when the loop ends. There is work only while it is true.
    var isSignalled = false
    var hasEnded = false
  }

  fileprivate enum Delivery {
    case signal, signalled, toSharedLoop
  }

  /// What is ready shares a turn with a few others, so that the system's code for reading, then what is done with it, and then the system's code for
  /// writing stay in the processor's cache: 16 are 3% faster than one by one in C, 64 are not.
  private static let eventsPerTurn = 16

  /// Jobs that may run before the sockets are looked at again.
  private static let jobsPerTurn = 4096

  /// Starts a loop on a new thread. It runs until `stop()`.
  /// - Parameter name: What debuggers call the thread; on Linux, its first 15 bytes.
  /// - Throws: `IOError`: EMFILE, ENFILE if there are no descriptors for it, EAGAIN if there is no thread.
  public convenience init(name: String = "sluice-loop") throws(IOError) {
    self.init(named: name, isShared: false)
    let status = open()
    guard status == 0 else { throw IOError("start", "a loop", status: status) }
    if let failure = start() {
      poller.close()
      unsafe uv_loop_close(uv)
      throw failure
    }
  }

  /// The shared one.
  private convenience init() {
    self.init(named: "sluice-loop", isShared: true)
    // Whatever is opened on it tries again, and says why it can't be.
    _ = open()
    // Whoever runs the shared loop by himself needs no thread of its own.
    if !UVLoop.isSharedHosted.load(ordering: .acquiring) { startOwnThread() }
  }

  private init(named name: String, isShared: Bool) {
    ignoreBrokenPipes()
    self.name = name
    self.isShared = isShared
    unsafe uv = .allocate(capacity: 1)
  }

  deinit { unsafe uv.deallocate() }

  /// Descriptors that libuv takes for a loop, the first one included, and the poller.
  private static let descriptorCount: CInt = 8

  /// Takes what a loop needs of the system, unless it is there. On the loop, or before it runs.
  /// - Returns: 0, or a libuv status: EMFILE, ENFILE …
  private func open() -> CInt {
    if poller.isOpen { return 0 }
    // Where there is no descriptor for its first loop, libuv ends the process.
    var status = sluice_can_open(Self.descriptorCount)
    if status == 0 { status = unsafe uv_loop_init(uv) }
    guard status == 0 else { return status }
    unsafe uv.pointee.data = Unmanaged.passUnretained(self).toOpaque()
    status = poller.open(libuv: unsafe uv_backend_fd(uv))
    if status != 0 { unsafe uv_loop_close(uv) }
    return status
  }

  /// The running thread keeps the loop alive.
  /// - Returns: why there is no thread for it, if there is none.
  private func start() -> IOError? {
    #if canImport(Glibc)
      var thread = pthread_t()
    #else
      var thread: pthread_t?
    #endif
    let this = unsafe Unmanaged.passRetained(self)
    let code = unsafe pthread_create(
      &thread, nil,
      { argument in
        #if canImport(Glibc)
          let loop = unsafe Unmanaged<UVLoop>.fromOpaque(argument!)
        #else
          let loop = unsafe Unmanaged<UVLoop>.fromOpaque(argument)
        #endif
        unsafe loop.takeRetainedValue().run()
        return nil
      }, unsafe this.toOpaque())
    guard code == 0 else {
      unsafe this.release()
      return IOError("start", "the thread of a loop", status: -code)
    }
    if isShared {
      ownThread = thread
      return nil
    }
    #if canImport(Glibc)
      pthread_detach(thread)
    #else
      if let thread { unsafe pthread_detach(thread) }
    #endif
    return nil
  }

  static func of(_ uv: UnsafeMutablePointer<uv_loop_t>) -> UVLoop {
    unsafe Unmanaged<UVLoop>.fromOpaque(uv.pointee.data).takeUnretainedValue()
  }

  /// The libuv loop, for something to begin on it. On the loop only.
  /// - Throws: `IOError` ECANCELED when the loop was stopped, EMFILE when there are no descriptors for it.
  func libuv(for operation: String, _ subject: String) throws(IOError) -> UnsafeMutablePointer<uv_loop_t> {
    try checkUsable(operation, subject)
    isLibuvTouched = true
    return unsafe uv
  }

  /// Something is being closed on libuv. On the loop only.
  func closesOnLibuv() { isLibuvTouched = true }

  /// What waits for descriptors, for another of them. On the loop only.
  /// - Throws: `IOError` ECANCELED when the loop was stopped, EMFILE when there are no descriptors for it.
  func poller(for operation: String, _ subject: String) throws(IOError) -> Poller {
    try checkUsable(operation, subject)
    return poller
  }

  private func checkUsable(_ operation: String, _ subject: String) throws(IOError) {
    let status = usability
    guard status == 0 else { throw IOError(operation, subject, status: status) }
  }

  /// Whether anything can begin on the loop: 0, or why not, as a libuv status. On the loop only.
  var usability: CInt {
    guard case .running = phase else { return UV_ECANCELED.rawValue }
    return open()
  }

  public var isCurrent: Bool {
    if owner.load(ordering: .relaxed) == currentThread() { return true }
    // What the thread that has ended left behind is seen from here on.
    return owner.load(ordering: .acquiring) == Owner.sharedLoop && UVLoop.shared.isCurrent
  }

  /// Watched descriptors and open libuv handles: what a leak shows in. On the loop only.
  package var openHandles: Int { unsafe poller.count + libuvHandles.count }

  /// Timers that are neither due nor cancelled. On the loop only.
  package var openTimers: Int { timers.count }
}

// MARK: running and ending

extension UVLoop {
  /// The life of the thread.
  private func run() {
    unsafe sluice_name_thread(name)
    if isShared { return runUntilLeft() }
    ProcessExit.willRun(self)
    owner.store(currentThread(), ordering: .relaxed)
    repeat {
      // The last one is for what has come before the loop could end.
      repeat { runOnce() } while isNeeded
    } while !handOver()
    ProcessExit.didRun(self)
    poller.close()
    guard poller.isOpen else { return }
    let status = unsafe uv_loop_close(uv)
    assert(status == 0, "a handle was left on a loop that has ended")
    // A handle that was forgotten points to the loop: then its memory stays.
    if status != 0 { unsafe _ = Unmanaged.passRetained(self) }
  }

  /// The shared loop never ends, but it can go on on another thread.
  func runUntilLeft() {
    ProcessExit.willRun(self)
    defer { ProcessExit.didRun(self) }
    owner.store(currentThread(), ordering: .relaxed)
    repeat { runOnce() } while !isThreadLeaving
    isThreadLeaving = false
    owner.store(Owner.nobody, ordering: .releasing)
  }

  /// Gives the shared loop a thread, if it has none.
  func startOwnThread() {
    guard ownThread == nil, let failure = start() else { return }
    // Nothing that was given to it would ever run.
    preconditionFailure("\(failure)")
  }

  /// Ends the shared loop's thread, so that another can run the loop.
  func endOwnThread() {
    guard let thread = ownThread else { return }
    execute { self.isThreadLeaving = true }
    pthread_join(thread, nil)
    ownThread = nil
  }

  private var isNeeded: Bool {
    if case .running = phase { return true }
    return unsafe poller.count > 0 || poller.isOpen && uv_loop_alive(uv) != 0
  }

  /// One round of the loop: what has become ready, then the timers that were due before it.
  private func runOnce() {
    if isLibuvTouched { runLibuv() }
    poller.wait(milliseconds: waitingTime)
    knownTime = nil
    let due = timeOfDueTimers()
    while poller.hasEvents { turn { poller.tellOwners(ofEvents: Self.eventsPerTurn) } }
    let awakening = poller.awakening
    if awakening.contains(.byThread) { takeInbox() }
    if awakening.contains(.byLibuv) { runLibuv() }
    if let due { turn { fireTimers(dueAt: due) } }
    // Nothing of them runs now: what timers and jobs have closed does not wait for the next event.
    if poller.hasFormerOwners { turn { poller.releaseFormerOwners() } }
  }

  private func runLibuv() {
    isLibuvTouched = false
    guard poller.isOpen else { return }
    unsafe uv_run(uv, UV_RUN_NOWAIT)
  }

  /// Ends the loop: nothing new begins on it, and what is open fails with `IOError` ECANCELED, but for streams that are being
  /// closed, which are flushed first. A child process gets SIGTERM. The thread ends when all that has ended, and file
  /// operations under way have returned.
  ///
  /// Tasks that run on the loop go on, on the thread of the shared loop in the end, as does work given to this loop later. The
  /// shared loop can't be stopped. From any thread; does nothing the second time.
  public func stop() {
    guard !isShared else { return }
    execute { self.stopOnLoop() }
  }

  private func stopOnLoop() {
    guard case .running = phase else { return }
    phase = .stopped
    for resident in residents { resident.loopWillEnd() }
  }

  /// What is open on the loop.
  private var residents: [any LoopResident] {
    let owners = unsafe libuvHandles.compactMap { handle -> AnyObject? in
      guard unsafe uv_is_closing(handle) == 0, let data = unsafe handle.pointee.data else { return nil }
      return unsafe Unmanaged<AnyObject>.fromOpaque(data).takeUnretainedValue()
    }
    return (poller.owners + owners).compactMap { $0 as? any LoopResident }
  }

  private var libuvHandles: [UnsafeMutablePointer<uv_handle_t>] {
    var handles = unsafe [UnsafeMutablePointer<uv_handle_t>]()
    if case .ended = phase { return unsafe handles }
    guard poller.isOpen else { return unsafe handles }
    unsafe withUnsafeMutablePointer(to: &handles) { pointer in
      let collect: uv_walk_cb = { handle, handles in
        unsafe handles!.assumingMemoryBound(to: [UnsafeMutablePointer<uv_handle_t>].self).pointee.append(handle!)
      }
      unsafe uv_walk(uv, collect, pointer)
    }
    return unsafe handles
  }

  /// Leaves what comes from now on to the shared loop.
  /// - Returns: false if something has come before.
  private func handOver() -> Bool {
    let isHandedOver = inbox.withLock { inbox in
      guard !inbox.isSignalled else { return false }
      inbox.hasEnded = true
      phase = .ended(nil)
      owner.store(Owner.sharedLoop, ordering: .releasing)
      return true
    }
    if isHandedOver { execute { self.armSharedTimer() } }
    return isHandedOver
  }
}

// MARK: work

extension UVLoop {
  public func enqueue(_ job: consuming ExecutorJob) {
    submit(.job(UnownedJob(job)))
  }

  public func execute(_ work: @escaping @Sendable () -> Void) {
    submit(.closure(work))
  }

  private func submit(_ work: Work) {
    if isCurrent && depth > 0 {
      ready.append(work)
      return
    }
    let delivery = inbox.withLock { inbox -> Delivery in
      if inbox.hasEnded { return .toSharedLoop }
      #if SANITIZED
        handover.add(1, ordering: .acquiringAndReleasing)
      #endif
      inbox.work.append(work)
      return inbox.signal()
    }
    switch delivery {
    case .signal: poller.wake()
    case .signalled: break
    case .toSharedLoop: UVLoop.shared.execute { self.run(work) }
    }
  }

  private func takeInbox() {
    let work = inbox.withLock { inbox in
      inbox.isSignalled = false
      #if SANITIZED
        handover.add(1, ordering: .acquiringAndReleasing)
      #endif
      return exchange(&inbox.work, with: [])
    }
    turn { ready.append(contentsOf: work) }
  }

  public func atEndOfTurn(_ work: any EndOfTurn) {
    assert(isCurrent, "timers and turns belong to the loop's thread")
    if case .ended = phase { return UVLoop.shared.atEndOfTurn(work) }
    turnEnd.append(work)
  }

  /// Whether nothing waits for the end of the turn.
  private var isTurnOver: Bool { ready.isEmpty && turnEnd.isEmpty }

  /// Runs the body of a callback, then the jobs that it made ready, then what gathers until the end of a turn.
  @inline(__always)
  func turn(_ body: () -> Void) {
    beginTurn()
    body()
    endTurn()
  }

  @inline(__always)
  func beginTurn() { depth += 1 }

  @inline(__always)
  func endTurn() {
    if depth == 1 { finishTurn() }
    depth -= 1
  }

  @inline(__always)
  private func finishTurn() {
    if !isTurnOver { runReady() }
  }

  private func runReady() {
    var budget = Self.jobsPerTurn
    repeat {
      while budget > 0, let work = ready.popFirst() {
        budget -= 1
        run(work)
      }
      // Who asks meanwhile waits until the jobs have run that this has made ready.
      for _ in 0..<turnEnd.count { turnEnd.popFirst()?.endOfTurn() }
    } while budget > 0 && !isTurnOver
    if !isTurnOver { postpone() }
  }

  @inline(__always)
  private func run(_ work: Work) {
    switch work {
    case .job(let job): unsafe job.runSynchronously(on: asUnownedTaskExecutor())
    case .closure(let closure): closure()
    }
  }

  /// Leaves the rest for the next round of the loop, behind whatever the sockets have.
  private func postpone() {
    let rest = Array(ready)
    ready.removeAll(keepingCapacity: true)
    let delivery = inbox.withLock { inbox in
      inbox.work.insert(contentsOf: rest, at: 0)
      return inbox.signal()
    }
    if case .signal = delivery { poller.wake() }
  }
}

extension UVLoop.Inbox {
  /// Says whether the loop has to be woken.
  fileprivate mutating func signal() -> UVLoop.Delivery {
    defer { isSignalled = true }
    return isSignalled ? .signalled : .signal
  }
}

// MARK: time

extension UVLoop {
  public var now: Duration { .nanoseconds(Int64(clamping: uv_hrtime())) }
  public var timeOfTurn: Duration {
    if let knownTime { return knownTime }
    let now = now
    knownTime = now
    return now
  }

  public func schedule(after delay: Duration, _ work: @escaping @Sendable () -> Void) -> LoopTimer {
    assert(isCurrent, "timers and turns belong to the loop's thread")
    let timer = timers.add(deadline: now + delay.bounded, work)
    didChangeTimers()
    return timer
  }

  public func cancelTimer(_ timer: LoopTimer) {
    assert(isCurrent, "timers and turns belong to the loop's thread")
    timers.cancel(timer)
    didChangeTimers()
  }

  private func didChangeTimers() {
    timersChanged = true
    if case .ended = phase { armSharedTimer() }
  }

  /// How long nothing is to be done by itself: milliseconds, rounded up; -1 for ever.
  private var waitingTime: CInt {
    if timersChanged { findNextDeadline() }
    guard let nextDeadline else { return -1 }
    let wait = max(nextDeadline - now, .zero) + Duration(secondsComponent: 0, attosecondsComponent: 999_999_999_999_999)
    return CInt(clamping: wait.wholeMilliseconds)
  }

  /// Up to which time timers fire in this round: that at which the system was asked what is ready. However long that takes then, whoever was in time
  /// is heard before his time is up.
  /// - Returns: nil if none is due, or if there may be more that is ready than the system tells of at once: then they fire when all of it was told.
  private func timeOfDueTimers() -> Duration? {
    guard let nextDeadline else { return nil }
    let now = now
    guard nextDeadline <= now else { return nil }
    // The system tells of each descriptor once before it begins anew.
    if poller.isFull, roundsDeferred <= poller.count / Poller.eventCapacity {
      roundsDeferred += 1
      return nil
    }
    roundsDeferred = 0
    return now
  }

  private func findNextDeadline() {
    timersChanged = false
    nextDeadline = timers.nextDeadline
  }

  private func fireTimers(dueAt time: Duration) {
    while let work = timers.popDue(at: time) { work() }
    didChangeTimers()
  }

  /// Where the thread has ended: has the shared loop wait for the first timer.
  private func armSharedTimer() {
    guard case .ended(let armed) = phase else { return }
    findNextDeadline()
    if let armed { UVLoop.shared.cancelTimer(armed) }
    phase = .ended(
      nextDeadline.map { next in UVLoop.shared.schedule(after: next - now) { self.fireTimers(dueAt: self.now) } })
  }
}

private func exchange<T>(_ value: inout T, with new: T) -> T {
  let old = value
  value = new
  return old
}

extension UVLoop: EndOfTurnCancelling {
  package func cancelEndOfTurn(_ work: any EndOfTurn) -> Bool { turnEnd.removeLast(work) }
}

/// Names the calling thread.
private func currentThread() -> UInt {
  #if canImport(Glibc)
    UInt(pthread_self())
  #else
    UInt(bitPattern: unsafe pthread_self())
  #endif
}

/// A write to a socket or pipe that nobody reads must be an error (EPIPE), not the death of the process.
private func ignoreBrokenPipes() {
  _ = signal(SIGPIPE, SIG_IGN)
}
