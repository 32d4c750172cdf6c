import SluiceStreams

extension PolledDuplexStream {
  /// Runs `body`, and ends this stream if that takes longer than `limit`. On the loop only.
  /// - Parameter error: What the stream fails with then; nil if it ends quietly.
  func within<R>(
    _ limit: Duration, orAbort error: (any Error)?, _ body: () async throws -> R
  ) async rethrows -> R {
    let timer = loop.schedule(after: limit) {
      if let error { self.abort(error) } else { self.cancel(nil) }
    }
    defer { loop.cancelTimer(timer) }
    return try await body()
  }
}
