import Synchronization

extension ReadableStream {
  /// This stream, whose end comes later: for sinks that are to stay open for a while after the last element. A failure comes at once.
  public func endingLater(by delay: Duration) -> some ReadableStream<Output> {
    LingeringStream(source: self, delay: delay)
  }
}

private final class LingeringStream<Source: ReadableStream>: ReadableStream {
  typealias Output = Source.Output

  private let source: Source
  private let delay: Duration
  private enum State {
    case open
    /// The source has ended, and a task waits, or a timer for a reader that polls.
    case lingering(Wait)
    /// The time after the end has passed, or nobody wants to wait for it.
    case over
  }
  private enum Wait {
    case task(Task<Void, any Error>)
    case timer(LoopTimer, any Loop)

    func cancel() {
      switch self {
      case .task(let task): task.cancel()
      case .timer(let timer, let loop): loop.perform { loop.cancelTimer(timer) }
      }
    }
  }
  private let state = Mutex(State.open)
  /// Who polls.
  private let reader = Mutex<(any Waker)?>(nil)

  init(source: Source, delay: Duration) {
    self.source = source
    self.delay = delay
  }

  func read() async throws -> Source.Output? {
    if let element = try await source.read() { return element }
    try await linger()
    return nil
  }

  private func linger() async throws {
    let sleep = startTask { [delay] in try await pause(for: delay) }
    let isOver = state.withLock { state in
      if case .over = state { return true }
      state = .lingering(.task(sleep))
      return false
    }
    defer { sleep.cancel() }
    if isOver { return }
    do {
      try await withTaskCancellationHandler {
        try await sleep.value
      } onCancel: {
        sleep.cancel()
      }
    } catch {
      // A read that is cancelled leaves the time to the next one.
      Reached.mark("endingLater.readCancelled")
      if case .lingering = state.withLock({ $0 }) { throw error }
    }
    state.withLock { $0 = .over }
  }

  func cancel(_ reason: (any Error)?) {
    let last = state.withLock { state in
      defer { state = .over }
      return state
    }
    if case .lingering(let wait) = last { wait.cancel() }
    source.cancel(reason)
    wakeReader()
  }

  private func wakeReader() { reader.withLock { $0 }?.wakeReader() }
}

extension LingeringStream: LoopBound where Source: LoopBound {
  var loop: any Loop { source.loop }
}

extension LingeringStream: PolledReadableStream where Source: PolledReadableStream {
  func poll() throws -> Polled<Source.Output> {
    let next = try source.poll()
    guard case .end = next else { return next }
    return state.withLock { state in
      switch state {
      case .over: return .end
      case .lingering: return .pending
      case .open:
        let timer = loop.schedule(after: delay) {
          self.state.withLock { $0 = .over }
          self.wakeReader()
        }
        state = .lingering(.timer(timer, loop))
        return .pending
      }
    }
  }

  func attachReader(_ waker: any Waker) throws {
    try source.attachReader(waker)
    reader.withLock { $0 = waker }
  }

  var hasReader: Bool { source.hasReader }

  func detachReader() {
    source.detachReader()
    reader.withLock { $0 = nil }
  }
}
