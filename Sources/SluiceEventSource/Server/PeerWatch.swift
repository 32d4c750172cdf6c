import SluiceStreams

extension PolledDuplexStream where Output == Bytes, Input == Bytes {
  /// Runs `body` in a task that is cancelled when the peer ends its half or is lost. What it sends meanwhile is dropped. On the loop.
  func whilePeerIsThere<Result: Sendable>(_ body: @escaping @Sendable () async throws -> Result) async throws -> Result
  {
    let task = Task(executorPreference: loop) { try await body() }
    let watch = PeerWatch(self) { task.cancel() }
    try attachReader(watch)
    defer { detachReader() }
    watch.wake()
    return try await withTaskCancellationHandler {
      try await task.value
    } onCancel: {
      task.cancel()
    }
  }
}

/// Tells when nothing more comes from a peer.
private final class PeerWatch: SingleWaker, @unchecked Sendable {  // touched on its loop only
  private let transport: any PolledDuplexStream<Bytes, Bytes>
  private let didLeave: @Sendable () -> Void

  init(_ transport: some PolledDuplexStream<Bytes, Bytes>, _ didLeave: @escaping @Sendable () -> Void) {
    self.transport = transport
    self.didLeave = didLeave
  }

  func wake() {
    // Who fails has left too.
    if (try? transport.dropReady()) != false { didLeave() }
  }
}
