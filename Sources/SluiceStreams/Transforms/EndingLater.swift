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
  /// Whether the time after the end has passed.
  private let hasLingered = Atomic<Bool>(false)

  init(source: Source, delay: Duration) {
    self.source = source
    self.delay = delay
  }

  func read() async throws -> Source.Output? {
    if let element = try await source.read() { return element }
    if !hasLingered.load(ordering: .relaxed) {
      try await Task.sleep(for: delay)
      hasLingered.store(true, ordering: .relaxed)
    }
    return nil
  }

  func cancel(_ reason: (any Error)?) { source.cancel(reason) }
}
