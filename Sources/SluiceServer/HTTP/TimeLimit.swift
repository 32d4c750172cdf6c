import SluiceStreams

extension PolledDuplexStream {
  /// Runs `body`, and aborts this stream if that takes longer than `limit`. On the loop only.
  /// - Parameter error: What the stream fails with then.
  func within<R>(_ limit: Duration, orAbort error: any Error, _ body: () async throws -> R) async rethrows -> R {
    let timer = loop.schedule(after: limit) { self.abort(error) }
    defer { loop.cancelTimer(timer) }
    return try await body()
  }
}

/// What a read until a moment gives.
enum TimedRead<Output: Sendable>: Sendable {
  case element(Output)
  case end
  /// Nothing has come in time. The stream is as it was.
  case late
}

extension PolledReadableStream {
  /// The next element, if it comes before the loop's clock shows `deadline`. On the loop only.
  func read(before deadline: Duration) async throws -> TimedRead<Output> {
    while true {
      switch try poll() {
      case .element(let element): return .element(detach(element))
      case .end: return .end
      case .pending: break
      }
      if loop.now >= deadline { return .late }
      let waiter = LoopWaiter()
      try attachReader(waiter)
      let timer = loop.schedule(after: deadline - loop.now) { waiter.wake() }
      defer {
        loop.cancelTimer(timer)
        detachReader()
      }
      try await waiter.wait(on: loop)
    }
  }
}
