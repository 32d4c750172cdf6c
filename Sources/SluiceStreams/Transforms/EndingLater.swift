import Synchronization

extension ReadableStream {
  /// This stream, whose end comes later: for sinks that are to stay open for a while after the last element.
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
    /// The source has ended.
    case lingering(Task<Void, any Error>)
    /// The time after the end has passed, or nobody wants to wait for it.
    case over
  }
  private let state = Mutex(State.open)

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
    let sleep = Task { [delay] in try await Task.sleep(for: delay) }
    let isOver = state.withLock { state in
      if case .over = state { return true }
      state = .lingering(sleep)
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
      if case .lingering = state.withLock({ $0 }) { throw error }
    }
    state.withLock { $0 = .over }
  }

  func cancel(_ reason: (any Error)?) {
    let last = state.withLock { state in
      defer { state = .over }
      return state
    }
    if case .lingering(let sleep) = last { sleep.cancel() }
    source.cancel(reason)
  }
}
