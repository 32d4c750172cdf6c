import CSluiceUV
import DequeModule
import SluiceStreams
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// An event loop on a thread of its own, on libuv. It is a task executor: tasks that prefer it run on its thread.
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
  private let name: String
  private let isShared: Bool
  private let uv: UnsafeMutablePointer<uv_loop_t>
  private let wakeup: UnsafeMutablePointer<uv_async_t>
  private let timer: UnsafeMutablePointer<uv_timer_t>

  @safe @exclusivity(unchecked) private var ready = Deque<Work>()
  @safe @exclusivity(unchecked) private var endOfTurnWork: [any EndOfTurn] = []
  /// What is done now, at the end of a turn; empty otherwise.
  @safe @exclusivity(unchecked) private var endingWork: [any EndOfTurn] = []
  private var timers = TimerQueue()
  private var armedDeadline: Duration?
  /// Whether the timer may have to be armed anew.
  @safe @exclusivity(unchecked) private var timersChanged = false
  @safe @exclusivity(unchecked) private var depth = 0
  private var phase = Phase.running
  @safe @exclusivity(unchecked) package var readBuffer = ReadBuffer()
  public let scratch = ScratchBuffers()
  public let locals = LoopLocals()

  /// The loop that is used where none is named; started at its first use, and never stopped.
  public static let shared = UVLoop(name: "sluice-loop", isShared: true)

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
    /// Whether `wakeup` was sent and not received: for each time that this becomes true it is sent once, so that none is
    /// under way when the loop ends. There is work only while it is true.
    var isSignalled = false
    var hasEnded = false
  }

  fileprivate enum Delivery {
    case signal, signalled, toSharedLoop
  }

  /// Jobs that may run before the sockets are looked at again.
  private static let jobsPerTurn = 4096

  /// Starts a loop on a new thread. It runs until `stop()`.
  /// - Parameter name: What debuggers call the thread; on Linux, its first 15 bytes.
  public convenience init(name: String = "sluice-loop") {
    self.init(name: name, isShared: false)
  }

  private init(name: String, isShared: Bool) {
    ignoreBrokenPipes()
    self.name = name
    self.isShared = isShared
    unsafe uv = .allocate(capacity: 1)
    unsafe wakeup = .allocate(capacity: 1)
    unsafe timer = .allocate(capacity: 1)
    let status = unsafe uv_loop_init(uv)
    precondition(status == 0, unsafe "no loop can be made: \(String(cString: unsafe uv_strerror(status)))")
    unsafe uv_async_init(uv, wakeup) { handle in unsafe UVLoop.of(handle!.pointee.loop).takeInbox() }
    unsafe uv_timer_init(uv, timer)
    unsafe wakeup.pointee.data = nil
    unsafe timer.pointee.data = nil
    unsafe uv.pointee.data = Unmanaged.passRetained(self).toOpaque()
    start()
  }

  deinit {
    unsafe uv.deallocate()
    unsafe wakeup.deallocate()
    unsafe timer.deallocate()
  }

  private func start() {
    #if canImport(Glibc)
      var thread = pthread_t()
    #else
      var thread: pthread_t?
    #endif
    let code = unsafe pthread_create(
      &thread, nil,
      { argument in
        #if canImport(Glibc)
          let loop = unsafe Unmanaged<UVLoop>.fromOpaque(argument!)
        #else
          let loop = unsafe Unmanaged<UVLoop>.fromOpaque(argument)
        #endif
        unsafe loop.takeUnretainedValue().run()
        return nil
      }, Unmanaged.passUnretained(self).toOpaque())
    precondition(code == 0, unsafe "no thread can be started for the loop: \(String(cString: unsafe strerror(code)))")
    #if canImport(Glibc)
      pthread_detach(thread)
    #else
      if let thread { unsafe pthread_detach(thread) }
    #endif
  }

  static func of(_ uv: UnsafeMutablePointer<uv_loop_t>) -> UVLoop {
    unsafe Unmanaged<UVLoop>.fromOpaque(uv.pointee.data).takeUnretainedValue()
  }

  /// The libuv loop, for something to begin on it. On the loop only.
  /// - Throws: `IOError` ECANCELED when the loop was stopped.
  func handle(for operation: String, _ subject: String) throws(IOError) -> UnsafeMutablePointer<uv_loop_t> {
    guard case .running = phase else { throw IOError(operation, subject, status: UV_ECANCELED.rawValue) }
    return unsafe uv
  }

  public var isCurrent: Bool {
    if owner.load(ordering: .relaxed) == currentThread() { return true }
    // What the thread that has ended left behind is seen from here on.
    return owner.load(ordering: .acquiring) == Owner.sharedLoop && UVLoop.shared.isCurrent
  }

  /// Open libuv handles apart from the loop's own two: what a leak shows in. On the loop only.
  package var openHandles: Int {
    if case .ended = phase { return 0 }
    var count = 0
    unsafe withUnsafeMutablePointer(to: &count) { pointer in
      unsafe uv_walk(uv, { _, count in unsafe count!.assumingMemoryBound(to: Int.self).pointee += 1 }, pointer)
    }
    return count - 2
  }

  /// Timers that are neither due nor cancelled. On the loop only.
  package var openTimers: Int { timers.count }
}

// MARK: running and ending

extension UVLoop {
  /// The life of the thread.
  private func run() {
    unsafe sluice_name_thread(name)
    owner.store(currentThread(), ordering: .relaxed)
    unsafe uv_run(uv, UV_RUN_DEFAULT)
    while !handOver() {
      setKeepsRunning(true)
      unsafe uv_run(uv, UV_RUN_ONCE)
      setKeepsRunning(false)
      unsafe uv_run(uv, UV_RUN_DEFAULT)
    }
    unsafe wakeup.withMemoryRebound(to: uv_handle_t.self, capacity: 1) { unsafe uv_close($0, nil) }
    unsafe timer.withMemoryRebound(to: uv_handle_t.self, capacity: 1) { unsafe uv_close($0, nil) }
    unsafe uv_run(uv, UV_RUN_DEFAULT)
    let status = unsafe uv_loop_close(uv)
    assert(status == 0, "a handle was left on a loop that has ended")
    // A handle that was forgotten points to the loop: then its memory stays.
    if status == 0 { unsafe Unmanaged<UVLoop>.fromOpaque(uv.pointee.data).release() }
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
    setKeepsRunning(false)
    for resident in residents { resident.loopWillEnd() }
  }

  /// Whether the loop runs on when nothing is open on it.
  private func setKeepsRunning(_ keepsRunning: Bool) {
    unsafe wakeup.withMemoryRebound(to: uv_handle_t.self, capacity: 1) { handle in
      unsafe keepsRunning ? uv_ref(handle) : uv_unref(handle)
    }
    // Whoever waits for a timer gets its answer from the shared loop, if not before.
    unsafe timer.withMemoryRebound(to: uv_handle_t.self, capacity: 1) { unsafe uv_unref($0) }
  }

  /// What the open handles belong to.
  private var residents: [any LoopResident] {
    var residents: [any LoopResident] = []
    unsafe withUnsafeMutablePointer(to: &residents) { pointer in
      let collect: uv_walk_cb = { handle, residents in
        guard unsafe uv_is_closing(handle) == 0, let data = unsafe handle!.pointee.data else { return }
        let owner = unsafe Unmanaged<AnyObject>.fromOpaque(data).takeUnretainedValue()
        guard let resident = owner as? any LoopResident else { return }
        unsafe residents!.assumingMemoryBound(to: [any LoopResident].self).pointee.append(resident)
      }
      unsafe uv_walk(uv, collect, pointer)
    }
    return residents
  }

  /// Leaves what comes from now on to the shared loop.
  /// - Returns: false if something has come before.
  private func handOver() -> Bool {
    let isHandedOver = inbox.withLock { inbox in
      guard !inbox.isSignalled else { return false }
      inbox.hasEnded = true
      phase = .ended(nil)
      armedDeadline = nil
      timersChanged = true
      owner.store(Owner.sharedLoop, ordering: .releasing)
      return true
    }
    if isHandedOver { execute { self.armTimer() } }
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
      inbox.work.append(work)
      return inbox.signal()
    }
    switch delivery {
    case .signal: unsafe uv_async_send(wakeup)
    case .signalled: break
    case .toSharedLoop: UVLoop.shared.execute { self.run(work) }
    }
  }

  private func takeInbox() {
    let work = inbox.withLock { inbox in
      inbox.isSignalled = false
      return exchange(&inbox.work, with: [])
    }
    turn { ready.append(contentsOf: work) }
  }

  public func atEndOfTurn(_ work: consuming any EndOfTurn) {
    assert(isCurrent, "timers and turns belong to the loop's thread")
    if case .ended = phase { return UVLoop.shared.atEndOfTurn(work) }
    endOfTurnWork.append(work)
  }

  /// Runs the body of a libuv callback, then the jobs that it made ready, then what gathers until the end of a turn.
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
    if ready.isEmpty && endOfTurnWork.isEmpty && !timersChanged { return }
    runReady()
  }

  private func runReady() {
    var budget = Self.jobsPerTurn
    repeat {
      while budget > 0, let work = ready.popFirst() {
        budget -= 1
        run(work)
      }
      swap(&endOfTurnWork, &endingWork)
      for index in endingWork.indices { endingWork[index].endOfTurn() }
      endingWork.removeAll(keepingCapacity: true)
    } while budget > 0 && !(ready.isEmpty && endOfTurnWork.isEmpty)
    if !(ready.isEmpty && endOfTurnWork.isEmpty) { postpone() }
    armTimer()
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
    if case .signal = delivery { unsafe uv_async_send(wakeup) }
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

  public func schedule(after delay: Duration, _ work: @escaping @Sendable () -> Void) -> LoopTimer {
    assert(isCurrent, "timers and turns belong to the loop's thread")
    let timer = timers.add(deadline: now + max(delay, .zero), work)
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
    // There is no turn any more at whose end that would be done.
    if case .ended = phase { armTimer() }
  }

  private func armTimer() {
    guard timersChanged else { return }
    timersChanged = false
    let next = timers.nextDeadline
    guard next != armedDeadline else { return }
    armedDeadline = next
    switch phase {
    case .running, .stopped: armOwnTimer(next)
    case .ended(let armed):
      if let armed { UVLoop.shared.cancelTimer(armed) }
      phase = .ended(next.map { next in UVLoop.shared.schedule(after: next - now) { self.fireTimers() } })
    }
  }

  private func armOwnTimer(_ deadline: Duration?) {
    guard let deadline else {
      unsafe uv_timer_stop(timer)
      return
    }
    // libuv counts milliseconds from its cached time: never fire early. It adds them to that.
    let wait = max(deadline - now, .zero) + Duration(secondsComponent: 0, attosecondsComponent: 999_999_999_999_999)
    unsafe uv_update_time(uv)
    // At least one: libuv 1.44 runs a timer that was started by another and is due at once before it looks at the sockets again, and so
    // a chain of them for ever.
    let milliseconds = UInt64(min(max(wait.wholeMilliseconds, 1), .max / 2))
    unsafe uv_timer_start(
      timer,
      { handle in
        let loop = unsafe UVLoop.of(handle!.pointee.loop)
        loop.turn { loop.fireTimers() }
      }, milliseconds, 0)
  }

  private func fireTimers() {
    armedDeadline = nil
    let now = now
    while let work = timers.popDue(at: now) { work() }
    didChangeTimers()
  }
}

private func exchange<T>(_ value: inout T, with new: T) -> T {
  let old = value
  value = new
  return old
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
