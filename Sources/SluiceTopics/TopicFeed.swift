import DequeModule
import SluiceStreams
import Synchronization

/// The ring of a topic: its newest messages, for all readers of this process, filled by one subscription of the engine.
///
/// It covers the numbers behind `base` up to `tail` without a gap. A reader whose place is in there takes what follows, or waits for it; any other one
/// reads the log until it is.
package final class TopicFeed: Sendable {
  private struct State {
    var subscription = Subscription.none
    /// Which subscription deliveries are taken from.
    var generation = 0
    var ring = Deque<TopicMessage>()
    var ringBytes = 0
    var base: UInt64 = 0
    var tail: UInt64 = 0
    /// Counts how often the ring began anew: then places are compared with the log first, as numbers alone could be of another epoch.
    var revision = 0
    var readerCount = 0
    var waiting: [TopicReader] = []
    var groups: [LiveGroupKey: (group: any LiveGroup, users: Int)] = [:]
    var opening: SharedResult<Opening>?
    var idle: Task<Void, any Error>?
    var isClosed = false
  }
  private enum Subscription {
    case none
    case beginning
    case live(any Following)
  }

  /// What there is of the log, and the ring's revision that its positions are good for.
  typealias Opening = (log: LogState, revision: Int)

  /// What a reader finds.
  enum Step {
    case messages([TopicMessage])
    /// There is nothing yet. If it has been registered, it is woken when there may be something.
    case wait
    /// What follows is not here, or its place has to be compared with the log first.
    case behind(revision: Int)
    case closed
  }

  private let state = Mutex(State())
  let topic: String
  let engine: any TopicEngine
  let options: TopicsOptions
  let catchUp: CatchUpReads

  init(_ topic: String, _ engine: any TopicEngine, _ options: TopicsOptions, permits: WaitingLine) {
    self.topic = topic
    self.engine = engine
    self.options = options
    catchUp = CatchUpReads(topic, engine, options, permits: permits)
  }

  deinit {
    if case .live(let following) = state.withLock({ $0.subscription }) { following.stop() }
  }

  /// What a message counts in the ring.
  static func cost(of message: TopicMessage) -> Int { message.byteCount + 256 }

  // MARK: the subscription

  /// Registers a reader of `core`, whose feed this is, and sees to it that there is a subscription.
  /// - Returns: what there is of the log. It is not older than the call, or than that of somebody who came just before.
  nonisolated(nonsending) func enter(_ core: TopicCore) async throws -> Opening {
    try state.withLock { state in
      if state.isClosed { throw TopicError.closed }
      state.readerCount += 1
      state.idle?.cancel()
      state.idle = nil
    }
    do { return try await currentState() } catch {
      leave(core)
      throw error
    }
  }

  nonisolated(nonsending) func currentState() async throws -> Opening {
    let (shared, isOwn) = state.withLock { state -> (SharedResult<Opening>, Bool) in
      if let opening = state.opening { return (opening, false) }
      let opening = SharedResult<Opening>()
      state.opening = opening
      return (opening, true)
    }
    if isOwn {
      _ = startTask {
        let revision = self.state.withLock { $0.revision }
        let result: Result<Opening, any Error>
        do {
          let log = try await self.engine.state(of: self.topic)
          result = .success((log, self.subscribe(from: log) ?? revision))
        } catch {
          result = .failure(error)
        }
        self.state.withLock { $0.opening = nil }
        shared.finish(result)
      }
    }
    return try await shared.value()
  }

  /// - Returns: the ring's revision; nil if there was a subscription, or nobody is there for one any more.
  private func subscribe(from log: LogState) -> Int? {
    let begun = state.withLock { state -> (generation: Int, revision: Int)? in
      guard case .none = state.subscription, state.readerCount > 0, !state.isClosed else { return nil }
      state.subscription = .beginning
      state.generation += 1
      state.ring = []
      state.ringBytes = 0
      state.base = log.end.offset
      state.tail = log.end.offset
      state.revision += 1
      return (state.generation, state.revision)
    }
    guard let (generation, revision) = begun else { return nil }
    let following = engine.follow(topic, after: log.end) { [weak self] delivery in
      self?.receive(delivery, generation)
    }
    let isWanted = state.withLock { state in
      guard state.generation == generation, case .beginning = state.subscription else { return false }
      state.subscription = .live(following)
      return true
    }
    if !isWanted { following.stop() }
    return revision
  }

  private func receive(_ delivery: Delivery, _ generation: Int) {
    let (waiting, groups, count, readers) = state.withLock { state -> ([TopicReader], [any LiveGroup], Int, Int) in
      guard state.generation == generation else { return ([], [], 0, 0) }
      var messages = delivery.messages[...]
      if delivery.behind != state.tail {
        if delivery.behind < state.tail, messages.first?.position.epoch == state.ring.last?.position.epoch {
          // Some are here already.
          messages = messages.drop { $0.position.offset <= state.tail }
        } else {
          state.ring = []
          state.ringBytes = 0
          state.base = delivery.behind
          state.tail = delivery.behind
          state.revision += 1
        }
      }
      for message in messages {
        state.ring.append(message)
        state.ringBytes += Self.cost(of: message)
        state.tail = message.position.offset
      }
      while state.ringBytes > options.ringBytes, state.ring.count > 1, let oldest = state.ring.popFirst() {
        state.ringBytes -= Self.cost(of: oldest)
        state.base = oldest.position.offset
      }
      defer { state.waiting = [] }
      return (state.waiting, state.groups.values.map(\.group), messages.count, state.readerCount)
    }
    if count > 0 { options.observer?.didReceive(topic: topic, count: count, readers: readers) }
    for reader in waiting { reader.wake() }
    for group in groups { group.ringDidChange() }
  }

  // MARK: readers

  /// Up to `maxCount` messages behind a place.
  /// - Parameter reader: Is registered for a wake where there is nothing yet.
  func take(after position: Position, revision: Int, maxCount: Int, for reader: TopicReader?) -> Step {
    state.withLock { state in
      if state.isClosed { return .closed }
      guard revision == state.revision, position.offset >= state.base else { return .behind(revision: state.revision) }
      guard position.offset < state.tail else {
        if let reader { state.waiting.append(reader) }
        return .wait
      }
      let start = Self.index(behind: position.offset, in: state.ring)
      let end = min(start + maxCount, state.ring.count)
      return .messages(Array(state.ring[start..<end]))
    }
  }

  /// The newest message, for a reader that skips to it.
  func newest() -> (TopicMessage, revision: Int)? {
    state.withLock { state in state.ring.last.map { ($0, state.revision) } }
  }

  private static func index(behind offset: UInt64, in ring: Deque<TopicMessage>) -> Int {
    guard let first = ring.first?.position.offset, offset >= first else { return 0 }
    // Within an epoch, numbers have no gaps.
    let guess = Int(clamping: offset - first)
    if guess < ring.count, ring[guess].position.offset == offset { return guess + 1 }
    var (low, high) = (0, ring.count)
    while low < high {
      let middle = (low + high) / 2
      if ring[middle].position.offset <= offset { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// The group of a key, made when it is asked for first, for one user more.
  func enterGroup<Group: LiveGroup>(_ key: LiveGroupKey, _ make: () -> Group) -> Group {
    state.withLock { state in
      if let (group, users) = state.groups[key], let group = group as? Group {
        state.groups[key] = (group, users + 1)
        return group
      }
      let group = make()
      state.groups[key] = (group, 1)
      return group
    }
  }

  func leaveGroup(_ key: LiveGroupKey) {
    state.withLock { state in
      guard let (group, users) = state.groups[key] else { return }
      state.groups[key] = users > 1 ? (group, users - 1) : nil
    }
  }

  /// A reader that was woken otherwise is not to be woken for nothing.
  func forget(_ reader: TopicReader) {
    state.withLock { state in state.waiting.removeAll { $0 === reader } }
  }

  /// A reader has gone. Without readers the subscription ends when `idleTimeout` is over; until then the topic is kept for those who come.
  func leave(_ core: TopicCore) {
    state.withLock { state in
      state.readerCount -= 1
      guard state.readerCount == 0, !state.isClosed, state.idle == nil else { return }
      state.idle = startTask {
        try await pause(for: core.options.idleTimeout)
        core.feed.endIfIdle()
      }
    }
  }

  private func endIfIdle() {
    let following = state.withLock { state -> (any Following)? in
      guard state.readerCount == 0 else { return nil }
      state.idle = nil
      return Self.end(&state)
    }
    following?.stop()
  }

  private static func end(_ state: inout State) -> (any Following)? {
    let subscription = state.subscription
    state.subscription = .none
    state.generation += 1
    state.revision += 1
    state.ring = []
    state.ringBytes = 0
    if case .live(let following) = subscription { return following }
    return nil
  }

  func close() {
    let (following, waiting, groups, idle) = state.withLock { state in
      state.isClosed = true
      defer {
        state.waiting = []
        state.idle = nil
      }
      return (Self.end(&state), state.waiting, state.groups.values.map(\.group), state.idle)
    }
    idle?.cancel()
    following?.stop()
    for reader in waiting { reader.wake() }
    for group in groups { group.ringDidChange() }
  }
}
