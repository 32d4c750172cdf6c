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
@safe public final class UVLoop: Loop, @unchecked Sendable {
  // `inbox` is for every thread; everything else is touched on the loop's thread only.
  private let inbox = Mutex(Inbox())
  private let uv: UnsafeMutablePointer<uv_loop_t>
  private let wakeup: UnsafeMutablePointer<uv_async_t>
  private let timer: UnsafeMutablePointer<uv_timer_t>
  private let thread: UnsafeMutablePointer<pthread_t>
  private let started: UnsafeMutablePointer<uv_sem_t>

  private var ready = Deque<Work>()
  private var endOfTurnWork: [any EndOfTurn] = []
  private var timers = TimerQueue()
  private var armedDeadline: Duration?
  /// Whether the timer may have to be armed anew.
  private var timersChanged = false
  private var depth = 0
  package var readBuffer = ReadBuffer()
  public let scratch = ScratchBuffers()
  public let locals = LoopLocals()

  /// The loop that is used where none is named; started at its first use, and never stopped.
  public static let shared = UVLoop(name: "sluice-loop")

  private enum Work {
    case job(UnownedJob)
    case closure(@Sendable () -> Void)
  }

  private struct Inbox {
    var work: [Work] = []
    var isSignalled = false
  }

  /// Jobs that may run before the sockets are looked at again.
  private static let jobsPerTurn = 4096

  /// Starts a loop on a new thread. It runs until `stop()`.
  public init(name: String = "sluice-loop") {
    ignoreBrokenPipes()
    unsafe uv = .allocate(capacity: 1)
    unsafe wakeup = .allocate(capacity: 1)
    unsafe timer = .allocate(capacity: 1)
    unsafe thread = .allocate(capacity: 1)
    unsafe started = .allocate(capacity: 1)
    unsafe uv_loop_init(uv)
    unsafe uv_async_init(uv, wakeup) { handle in unsafe UVLoop.of(handle!.pointee.loop).takeInbox() }
    unsafe uv_timer_init(uv, timer)
    unsafe uv.pointee.data = Unmanaged.passRetained(self).toOpaque()
    start(name: name)
  }

  deinit {
    unsafe uv.deallocate()
    unsafe wakeup.deallocate()
    unsafe timer.deallocate()
    unsafe thread.deallocate()
    unsafe uv_sem_destroy(started)
    unsafe started.deallocate()
  }

  private func start(name: String) {
    // The thread waits until `isCurrent` knows it.
    unsafe uv_sem_init(started, 0)
    let code = unsafe pthread_create(
      thread, nil,
      { argument in
        let loop = unsafe Unmanaged<UVLoop>.fromOpaque(argument!).takeUnretainedValue()
        unsafe uv_sem_wait(loop.started)
        unsafe uv_run(loop.uv, UV_RUN_DEFAULT)
        loop.dismantle()
        return nil
      }, Unmanaged.passUnretained(self).toOpaque())
    precondition(code == 0, unsafe "no thread can be started for the loop: \(String(cString: unsafe strerror(code)))")
    unsafe pthread_detach(thread.pointee)
    unsafe uv_sem_post(started)
  }

  /// Ends the loop: its handles are closed, its thread ends once nothing is left on it. Work given to it later never runs.
  public func stop() {
    execute {
      unsafe uv_close(self.wakeup.withMemoryRebound(to: uv_handle_t.self, capacity: 1) { unsafe $0 }, nil)
      unsafe uv_close(self.timer.withMemoryRebound(to: uv_handle_t.self, capacity: 1) { unsafe $0 }, nil)
    }
  }

  private func dismantle() {
    unsafe uv_loop_close(uv)
    unsafe Unmanaged<UVLoop>.fromOpaque(uv.pointee.data).release()
  }

  static func of(_ uv: UnsafeMutablePointer<uv_loop_t>) -> UVLoop {
    unsafe Unmanaged<UVLoop>.fromOpaque(uv.pointee.data).takeUnretainedValue()
  }

  /// The memory for the next read, without counting a reference to the loop.
  static func nextReadBuffer(_ uv: UnsafeMutablePointer<uv_loop_t>) -> UnsafeMutableBufferPointer<UInt8> {
    unsafe Unmanaged<UVLoop>.fromOpaque(uv.pointee.data)._withUnsafeGuaranteedRef { unsafe $0.readBuffer.next() }
  }

  /// The libuv loop, for handles to be made on it, on its thread.
  var handle: UnsafeMutablePointer<uv_loop_t> { unsafe uv }

  public var isCurrent: Bool { unsafe pthread_equal(pthread_self(), thread.pointee) != 0 }

  /// Open libuv handles apart from the loop's own two: what a leak shows in. On the loop only.
  package var openHandles: Int {
    var count = 0
    unsafe withUnsafeMutablePointer(to: &count) { pointer in
      unsafe uv_walk(uv, { _, count in unsafe count!.assumingMemoryBound(to: Int.self).pointee += 1 }, pointer)
    }
    return count - 2
  }

  /// Timers that are neither due nor cancelled. On the loop only.
  package var openTimers: Int { timers.count }
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
    let mustSignal = inbox.withLock { inbox in
      inbox.work.append(work)
      defer { inbox.isSignalled = true }
      return !inbox.isSignalled
    }
    if mustSignal { unsafe uv_async_send(wakeup) }
  }

  private func takeInbox() {
    let work = inbox.withLock { inbox in
      inbox.isSignalled = false
      return exchange(&inbox.work, with: [])
    }
    turn { ready.append(contentsOf: work) }
  }

  public func atEndOfTurn(_ work: any EndOfTurn) {
    assert(isCurrent, "timers and turns belong to the loop's thread")
    endOfTurnWork.append(work)
  }

  /// Runs the body of a libuv callback, then the jobs that it made ready, then what gathers until the end of a turn.
  @inline(__always)
  func turn(_ body: () -> Void) {
    depth += 1
    body()
    if depth == 1 { finishTurn() }
    depth -= 1
  }

  private func finishTurn() {
    if ready.isEmpty && endOfTurnWork.isEmpty && !timersChanged { return }
    var budget = Self.jobsPerTurn
    repeat {
      while budget > 0, let work = ready.popFirst() {
        budget -= 1
        switch work {
        case .job(let job): unsafe job.runSynchronously(on: asUnownedTaskExecutor())
        case .closure(let closure): closure()
        }
      }
      let flushing = exchange(&endOfTurnWork, with: [])
      for work in flushing { work.endOfTurn() }
    } while budget > 0 && !(ready.isEmpty && endOfTurnWork.isEmpty)
    if !ready.isEmpty { postpone() }
    armTimer()
  }

  /// Leaves the rest for the next round of the loop, behind whatever the sockets have.
  private func postpone() {
    let rest = Array(ready)
    ready.removeAll(keepingCapacity: true)
    inbox.withLock {
      $0.work.insert(contentsOf: rest, at: 0)
      $0.isSignalled = true
    }
    unsafe uv_async_send(wakeup)
  }
}

// MARK: time

extension UVLoop {
  public var now: Duration { .nanoseconds(Int64(clamping: uv_hrtime())) }

  public func schedule(after delay: Duration, _ work: @escaping @Sendable () -> Void) -> LoopTimer {
    assert(isCurrent, "timers and turns belong to the loop's thread")
    timersChanged = true
    return timers.add(deadline: now + max(delay, .zero), work)
  }

  public func cancelTimer(_ timer: LoopTimer) {
    assert(isCurrent, "timers and turns belong to the loop's thread")
    timersChanged = true
    timers.cancel(timer)
  }

  private func armTimer() {
    guard timersChanged else { return }
    timersChanged = false
    let next = timers.nextDeadline
    guard next != armedDeadline else { return }
    armedDeadline = next
    guard let next else {
      unsafe uv_timer_stop(timer)
      return
    }
    // libuv counts milliseconds from its cached time: never fire early. It adds them to that.
    let wait = max(next - now, .zero) + Duration(secondsComponent: 0, attosecondsComponent: 999_999_999_999_999)
    unsafe uv_update_time(uv)
    let milliseconds = UInt64(min(wait.wholeMilliseconds, .max / 2))
    unsafe uv_timer_start(timer, { handle in unsafe UVLoop.of(handle!.pointee.loop).fireTimers() }, milliseconds, 0)
  }

  private func fireTimers() {
    armedDeadline = nil
    timersChanged = true
    turn {
      let now = now
      while let work = timers.popDue(at: now) { work() }
    }
  }
}

private func exchange<T>(_ value: inout T, with new: T) -> T {
  let old = value
  value = new
  return old
}

/// A write to a socket or pipe that nobody reads must be an error (EPIPE), not the death of the process.
private func ignoreBrokenPipes() {
  _ = signal(SIGPIPE, SIG_IGN)
}
