import Sluice
import SluiceWebSocket
import Synchronization

/// One endpoint that all connections of a server share, message by message: each hears what it gives, and it gets what each says.
final class SharedTarget: Sendable {
  let room: Room
  private let sink: (any WritableStream<Message>)?
  private let source: (any ReadableStream<Message>)?
  private let reading: Task<Void, any Error>
  private let readsToEnd: Bool

  /// - Parameters:
  ///   - readsToEnd: Whether it ends by itself once it is told nothing more, as a command does.
  ///   - onEnd: Is called when it has ended: nobody hears anything then.
  init(
    _ slow: SlowConnection, framing: MessageFraming, _ metrics: Metrics?, source: (any ReadableStream<Message>)?,
    sink: (any WritableStream<Message>)?, readsToEnd: Bool, onEnd: @escaping @Sendable () -> Void
  ) {
    let sink = sink
    let room = Room(slow, framing: framing, metrics, listener: sink ?? Writable { _ in })
    self.room = room
    self.sink = sink
    self.source = source
    self.readsToEnd = readsToEnd
    reading = Task(executorPreference: UVLoop.shared) {
      guard let source else { return }
      let result: Result<Void, any Error>
      do {
        while let message = try await source.read() { try await room.tell(message) }
        result = .success(())
      } catch { result = .failure(error) }
      onEnd()
      try? await room.close()
      try result.get()
    }
  }

  /// Nobody is connected any more.
  /// - Throws: What reading has failed with, or the end of writing.
  func finish() async throws {
    do { try await sink?.close() } catch StreamError.closed {}
    if !readsToEnd { source?.cancel(nil) }
    try await reading.value
  }
}
