#if NIO
  import NIOCore
  import SluiceStreams
  import Synchronization

  /// A SwiftNIO event loop as the loop of streams: their tasks run on its thread, without a hop.
  public final class NIOLoop: Loop, @unchecked Sendable {  // touched on the event loop only, but for what is `let`
    public let eventLoop: any EventLoop
    public let scratch = ScratchBuffers()
    public let locals = LoopLocals()
    private var timers = TimerQueue()
    private var armed: (deadline: Duration, timer: Scheduled<Void>)?
    private var endOfTurnWork: [any EndOfTurn] = []

    private static let loops = Mutex<[ObjectIdentifier: NIOLoop]>([:])

    /// The loop of an event loop, the same each time. It stays as long as the process: event loops are few.
    public static func of(_ eventLoop: any EventLoop) -> NIOLoop {
      loops.withLock { loops in
        if let loop = loops[ObjectIdentifier(eventLoop)] { return loop }
        let loop = NIOLoop(eventLoop)
        loops[ObjectIdentifier(eventLoop)] = loop
        return loop
      }
    }

    private init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    public var isCurrent: Bool { eventLoop.inEventLoop }

    public var now: Duration { .nanoseconds(Int64(clamping: eventLoop.now.uptimeNanoseconds)) }

    public func enqueue(_ job: consuming ExecutorJob) {
      let job = UnownedJob(job)
      eventLoop.execute { unsafe job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }

    public func execute(_ work: @escaping @Sendable () -> Void) { eventLoop.execute(work) }

    public func atEndOfTurn(_ work: any EndOfTurn) {
      endOfTurnWork.append(work)
      // Behind what is ready now.
      if endOfTurnWork.count == 1 { eventLoop.execute { self.endTurn() } }
    }

    private func endTurn() {
      let flushing = endOfTurnWork
      endOfTurnWork = []
      for work in flushing { work.endOfTurn() }
    }

    // MARK: time

    public func schedule(after delay: Duration, _ work: @escaping @Sendable () -> Void) -> LoopTimer {
      let timer = timers.add(deadline: now + delay.bounded, work)
      arm()
      return timer
    }

    public func cancelTimer(_ timer: LoopTimer) { timers.cancel(timer) }

    private func arm() {
      guard let deadline = timers.nextDeadline, armed.map({ deadline < $0.deadline }) ?? true else { return }
      armed?.timer.cancel()
      // What is further off than can be counted is armed again.
      let wait = min(max(deadline - now, .zero), Self.longestWait).components
      let delay = wait.seconds * 1_000_000_000 + wait.attoseconds / 1_000_000_000
      armed = (deadline, eventLoop.scheduleTask(in: .nanoseconds(delay)) { self.fire() })
    }

    private static let longestWait = Duration.seconds(86_400)

    private func fire() {
      armed = nil
      while let work = timers.popDue(at: now) { work() }
      arm()
    }
  }
#endif
