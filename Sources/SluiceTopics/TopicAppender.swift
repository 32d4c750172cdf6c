import DequeModule
import SluiceStreams
import Synchronization

/// What this process appends to one topic: in order, and all that waits at once, as one writer with an identity of its own.
///
/// A batch that fails takes all that wait behind it with it, so that nothing is stored behind what was not.
final class TopicAppender: Sendable {
  typealias Completion = @Sendable (Result<Position, any Error>) -> Void

  private struct State {
    var queue = Deque<(content: TopicContent, completion: Completion)>()
    /// What is queued, and what is under way.
    var pendingCount = 0
    var pendingBytes = 0
    var nextNumber: UInt64 = 1
    var isRunning = false
    var roomWaiters: [SharedResult<Void>] = []
    var isClosed = false
  }
  private let state = Mutex(State())
  private let topic: String
  private let engine: any TopicEngine
  private let limits: LogLimits
  private let options: TopicsOptions
  private let writer = LogEpoch.newName()

  /// Messages, and bytes, of one batch.
  private static let maxBatch = 512
  private static let maxBatchBytes = 512 << 10

  init(_ topic: String, _ engine: any TopicEngine, _ limits: LogLimits, _ options: TopicsOptions) {
    self.topic = topic
    self.engine = engine
    self.limits = limits
    self.options = options
  }

  nonisolated(nonsending) func append(_ content: TopicContent) async throws -> Position {
    if let position = try appendAtOnce(content) { return position }
    let result = SharedResult<Position>()
    try await submit(content) { result.finish($0) }
    // Its request may have left: a caller that is cancelled does not know whether it is stored.
    return try await result.value()
  }

  /// Where nothing waits, and the engine need not wait either.
  func appendAtOnce(_ content: TopicContent) throws -> Position? {
    guard engine.appendsAtOnce else { return nil }
    try check(content)
    return try state.withLock { state in
      if state.isClosed { throw TopicError.closed }
      guard !state.isRunning else { return nil }
      let batch = AppendBatch([content], writer: writer, firstNumber: state.nextNumber)
      guard let position = try engine.appendAtOnce(batch, to: topic, limits: limits) else { return nil }
      state.nextNumber += 1
      options.observer?.didAppend(topic: topic, count: 1, byteCount: content.byteCount)
      return position
    }
  }

  private func check(_ content: TopicContent) throws {
    // An event's type is a line.
    if let event = content.event, event.utf8.contains(where: { $0 == 0x0A || $0 == 0x0D || $0 == 0x00 }) {
      throw TopicError.refused("the event type contains a line break or NUL byte")
    }
    guard content.byteCount <= options.maxMessageBytes else {
      throw TopicError.messageTooLarge(limit: options.maxMessageBytes, actual: content.byteCount)
    }
  }

  /// Waits for room, and has the content appended; `completion` is called once.
  /// - Throws: What keeps it from being taken: then `completion` is not called.
  nonisolated(nonsending) func submit(_ content: TopicContent, _ completion: @escaping Completion) async throws {
    try check(content)
    while true {
      let full = try state.withLock { state -> SharedResult<Void>? in
        if state.isClosed { throw TopicError.closed }
        let hasRoom =
          state.pendingCount < max(options.maxPendingAppends, 1)
          && (state.pendingBytes == 0 || state.pendingBytes + content.byteCount <= options.maxPendingBytes)
        guard hasRoom else {
          let waiter = SharedResult<Void>()
          state.roomWaiters.append(waiter)
          return waiter
        }
        state.queue.append((content, completion))
        state.pendingCount += 1
        state.pendingBytes += content.byteCount
        if !state.isRunning {
          state.isRunning = true
          _ = startTask { await self.run() }
        }
        return nil
      }
      guard let full else { return }
      // The engine is given up within `appendTimeout`, and everybody told.
      try await full.value()
    }
  }

  private typealias Batch = (contents: AppendBatch, completions: [Completion], byteCount: Int)

  private func run() async {
    while let batch = takeBatch() {
      let outcome = await store(batch.contents)
      finish(batch, outcome)
    }
  }

  private func takeBatch() -> Batch? {
    state.withLock { state in
      var contents: [TopicContent] = []
      var completions: [Completion] = []
      var byteCount = 0
      while contents.count < Self.maxBatch, let next = state.queue.first,
        contents.isEmpty || byteCount + next.content.byteCount <= Self.maxBatchBytes
      {
        byteCount += next.content.byteCount
        contents.append(next.content)
        completions.append(next.completion)
        state.queue.removeFirst()
      }
      guard !contents.isEmpty else {
        state.isRunning = false
        return nil
      }
      let batch = AppendBatch(contents, writer: writer, firstNumber: state.nextNumber)
      state.nextNumber += UInt64(contents.count)
      return (batch, completions, byteCount)
    }
  }

  /// Has a batch stored, however often it takes within the time limit: the engine stores it once.
  private func store(_ batch: AppendBatch) async -> Result<Position, any Error> {
    let clock = ContinuousClock()
    let deadline = clock.now + options.appendTimeout.bounded
    var attempt = 0
    while true {
      do {
        return .success(try await engine.append(batch, to: topic, limits: limits))
      } catch TopicError.unavailable(let reason) {
        attempt += 1
        let delay = Duration.milliseconds(Int64.random(in: 5...(50 << min(attempt, 5))))
        guard clock.now + delay < deadline else {
          return .failure(TopicError.appendFailed(mayBeStored: true, reason: reason))
        }
        do { try await pause(for: delay) } catch {}
      } catch {
        // What came before the refusal may have got through.
        return .failure(attempt == 0 ? error : TopicError.appendFailed(mayBeStored: true, reason: "\(error)"))
      }
    }
  }

  private func finish(_ batch: Batch, _ outcome: Result<Position, any Error>) {
    let (dropped, waiters) = state.withLock { state -> ([Completion], [SharedResult<Void>]) in
      state.pendingCount -= batch.completions.count
      state.pendingBytes -= batch.byteCount
      var dropped: [Completion] = []
      if case .failure = outcome {
        dropped = state.queue.map(\.completion)
        state.pendingCount -= dropped.count
        state.pendingBytes -= state.queue.reduce(0) { $0 + $1.content.byteCount }
        state.queue = []
      }
      defer { state.roomWaiters = [] }
      return (dropped, state.roomWaiters)
    }
    switch outcome {
    case .success(let last):
      options.observer?.didAppend(topic: topic, count: batch.completions.count, byteCount: batch.byteCount)
      // They stand behind one another.
      var offset = last.offset - UInt64(batch.completions.count - 1)
      for completion in batch.completions {
        completion(.success(Position(epoch: last.epoch, offset: offset)))
        offset += 1
      }
    case .failure(let error):
      options.observer?.didFailToAppend(topic: topic, count: batch.completions.count + dropped.count)
      for completion in batch.completions { completion(.failure(error)) }
      let reason = "one before it was not confirmed: \(error)"
      for completion in dropped {
        completion(.failure(TopicError.appendFailed(mayBeStored: false, reason: reason)))
      }
    }
    for waiter in waiters { waiter.finish(.success(())) }
  }

  func close() { state.withLock { $0.isClosed = true } }
}
