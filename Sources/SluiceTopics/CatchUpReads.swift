import SluiceStreams
import Synchronization

/// The reads of one topic's log for those who catch up: who needs the same part shares one read of it, and a part that was read serves those who come
/// for it within the next ones.
final class CatchUpReads: Sendable {
  private struct State {
    /// By the number behind which is read.
    var underWay: [UInt64: SharedResult<LogSlice>] = [:]
    /// Newest last.
    var held: [LogSlice] = []
    var heldBytes = 0
    var readerCount = 0
  }
  private let state = Mutex(State())
  private let topic: String
  private let engine: any TopicEngine
  private let options: TopicsOptions
  private let permits: WaitingLine

  /// Messages that are read at a time. Reads begin at multiples of it, so that those who are near each other need the same ones.
  static let maxCount = 256

  init(_ topic: String, _ engine: any TopicEngine, _ options: TopicsOptions, permits: WaitingLine) {
    self.topic = topic
    self.engine = engine
    self.options = options
    self.permits = permits
  }

  /// Somebody begins to catch up.
  func enter() { state.withLock { $0.readerCount += 1 } }

  /// The last one who has caught up leaves nothing behind.
  func leave() {
    state.withLock { state in
      state.readerCount -= 1
      guard state.readerCount == 0 else { return }
      state.held = []
      state.heldBytes = 0
    }
  }

  /// What follows a position in the log.
  /// - Returns: nothing if there is nothing yet.
  /// - Throws: `TopicError.positionLost`; `TopicError.unavailable` if the engine was; `CancellationError`.
  nonisolated(nonsending) func messages(after position: Position) async throws -> ArraySlice<TopicMessage> {
    if let held = state.withLock({ Self.held(in: $0.held, after: position.offset) }),
      held.state.isWhole(behind: position)
    {
      // The others first, who need the same: who runs ahead of them has them read again what is dropped for what it needs itself.
      await Task.yield()
      return Self.rest(of: held, after: position.offset)
    }
    let (shared, isOwn) = begin(after: position.offset - position.offset % UInt64(Self.maxCount))
    let slice = try await shared.value()
    if isOwn { _ = try slice.state.successor(of: position) }
    if slice.state.isWhole(behind: position) {
      let rest = Self.rest(of: slice, after: position.offset)
      if !rest.isEmpty { return rest }
    }
    // By itself: what somebody else has read may be older than the position, and the messages before it too many bytes for one read.
    let own = try await read(after: position.offset)
    _ = try own.state.successor(of: position)
    return own.messages[...]
  }

  private static func held(in slices: [LogSlice], after offset: UInt64) -> LogSlice? {
    slices.last { slice in
      guard let first = slice.messages.first, let last = slice.messages.last else { return false }
      return first.position.offset - 1 <= offset && offset < last.position.offset
    }
  }

  private static func rest(of slice: LogSlice, after offset: UInt64) -> ArraySlice<TopicMessage> {
    slice.messages.drop { $0.position.offset <= offset }
  }

  private func begin(after offset: UInt64) -> (SharedResult<LogSlice>, isOwn: Bool) {
    let (shared, isOwn) = state.withLock { state -> (SharedResult<LogSlice>, Bool) in
      if let shared = state.underWay[offset] { return (shared, false) }
      let shared = SharedResult<LogSlice>()
      state.underWay[offset] = shared
      return (shared, true)
    }
    guard isOwn else { return (shared, false) }
    // A task of its own: whoever asked first may be cancelled.
    _ = startTask {
      let result: Result<LogSlice, any Error>
      do { result = .success(try await self.read(after: offset)) } catch { result = .failure(error) }
      self.state.withLock { state in
        state.underWay[offset] = nil
        if case .success(let slice) = result { Self.hold(slice, in: &state, limit: self.options.catchUpBytes) }
      }
      shared.finish(result)
    }
    return (shared, true)
  }

  private static func hold(_ slice: LogSlice, in state: inout State, limit: Int) {
    guard state.readerCount > 0, !slice.messages.isEmpty else { return }
    state.held.append(slice)
    state.heldBytes += cost(of: slice)
    while state.heldBytes > limit, !state.held.isEmpty { state.heldBytes -= cost(of: state.held.removeFirst()) }
  }

  private static func cost(of slice: LogSlice) -> Int {
    slice.messages.reduce(0) { $0 + TopicFeed.cost(of: $1) }
  }

  private nonisolated(nonsending) func read(after offset: UInt64) async throws -> LogSlice {
    try await permits.enter()
    defer { permits.leave() }
    let slice = try await engine.read(
      topic, after: offset, maxCount: Self.maxCount, maxBytes: max(options.catchUpBytes / 4, 1)
    ).withoutGaps(behind: offset)
    options.observer?.didReadLog(topic: topic, count: slice.messages.count)
    return slice
  }
}
