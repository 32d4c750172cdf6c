/// Watches whether the peer of a stream takes what is written to it, and says so when it has taken nothing for a time. On the stream's loop only.
///
/// A slow peer is not a stalled one: what counts is `deliveredByteCount`, which moves with every byte that the peer's system has acknowledged,
/// while room for a write comes in steps of up to megabytes, with the buffers of the system.
package final class StallWatch: @unchecked Sendable {  // touched on the loop only
  private let stream: any PolledWritableStream
  private let limit: Duration
  private let hasMoved: () -> Bool
  private let didStall: @Sendable () -> Void
  private var progress: Int
  private var lastProgress: Duration
  private var timer: LoopTimer?

  /// - Parameters:
  ///   - limit: It is noticed when nothing was taken for this time, or up to a quarter more.
  ///   - hasMoved: Whether there was something else that counts as a sign of life since this was called last.
  ///   - didStall: Is called once, unless `stop` was called before.
  package init(
    _ stream: any PolledWritableStream, limit: Duration, alsoCounting hasMoved: @escaping () -> Bool = { false },
    didStall: @escaping @Sendable () -> Void
  ) {
    self.stream = stream
    self.limit = limit
    self.hasMoved = hasMoved
    self.didStall = didStall
    lastProgress = stream.loop.now
    progress = Self.progress(of: stream)
    schedule()
  }

  private func schedule() {
    let left = limit - (stream.loop.now - lastProgress)
    timer = stream.loop.schedule(after: min(limit / 4, left)) { self.check() }
  }

  private func check() {
    let now = stream.loop.now
    let progress = Self.progress(of: stream)
    if hasMoved() || progress != self.progress {
      Reached.mark("stall.slowPeer")
      self.progress = progress
      lastProgress = now
    }
    guard now - lastProgress >= limit else { return schedule() }
    Reached.mark("stall.noticed")
    didStall()
  }

  private static func progress(of stream: any PolledWritableStream) -> Int {
    stream.deliveredByteCount ?? -stream.queuedByteCount
  }

  package func stop() {
    if let timer { stream.loop.cancelTimer(timer) }
    timer = nil
  }
}

extension PolledWritableStream {
  /// Closes after a failure of the source; aborts if the peer takes nothing for the time.
  func closeWatched(after failure: any Error, stallTimeout limit: Duration) async {
    await withTaskExecutorPreference(loop) { @concurrent () async in
      try? await whilePeerTakes(within: limit, orAbort: failure) { try await close(after: failure) }
    }
  }

  /// Runs `body`, which waits for the peer to take what was written, and aborts this stream when that has taken nothing for `limit`. On the loop
  /// only.
  package func whilePeerTakes<R>(
    within limit: Duration, orAbort error: any Error, _ body: () async throws -> R
  ) async rethrows -> R {
    let watch = StallWatch(self, limit: limit) { self.abort(error) }
    defer { watch.stop() }
    return try await body()
  }
}
