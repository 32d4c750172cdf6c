import SluiceStreams
import Synchronization

/// Reads a topic: from a beginning, through what the log has, and on with what is appended, as one stream without a gap and without repetition.
///
/// It does not end by itself. A reader that is slow holds nobody, and costs nothing but its place: what it has not read is read from the log again
/// when it has left the ring.
public final class TopicReader: ReadableStream {
  public typealias Output = TopicMessage

  private struct State {
    var cursor: Position
    /// Of the log, behind the cursor.
    var slice: ArraySlice<TopicMessage> = []
    /// The ring's revision that the cursor is known to be good for.
    var revision: Int
    /// Whether it has been in the ring, so that it can fall out of it.
    var isInRing = false
    var isCatchingUp = false
    var isReading = false
    var wait = Wait.none
    var end = End.open
    /// What it was read for has ended.
    var interruption: (any Error)?
    /// Whether it is registered with the feed.
    var hasLeft = false
  }
  private enum Wait {
    case none
    case waiting(CheckedContinuation<Void, Never>)
    case woken
  }
  private enum End {
    case open
    case cancelled
    case failed(any Error)
  }

  private let state: Mutex<State>
  private let core: TopicCore
  var feed: TopicFeed { core.feed }
  private let policy: SlowReaderPolicy
  private let onLoss: LossPolicy

  /// The feed has been entered.
  private init(
    _ core: TopicCore, at cursor: Position, revision: Int, _ policy: SlowReaderPolicy, _ onLoss: LossPolicy
  ) {
    self.core = core
    self.policy = policy
    self.onLoss = onLoss
    state = Mutex(State(cursor: cursor, revision: revision))
  }

  deinit { leave() }

  static func open(
    _ core: TopicCore, from beginning: TopicBeginning, _ policy: SlowReaderPolicy, _ onLoss: LossPolicy
  ) async throws -> TopicReader {
    let feed = core.feed
    var (log, revision) = try await feed.enter(core)
    do {
      // What is known of the log may be older than the position: somebody else's question came just before.
      if case .after(let position) = beginning, !log.isWhole(behind: position) {
        (log, revision) = try await feed.currentState()
      }
      let cursor = try place(for: beginning, in: log, feed, onLoss)
      return TopicReader(core, at: cursor, revision: revision, policy, onLoss)
    } catch {
      feed.leave(core)
      throw error
    }
  }

  /// - Throws: `TopicError.positionLost`, if that is not to be resumed from.
  private static func place(
    for beginning: TopicBeginning, in log: LogState, _ feed: TopicFeed, _ onLoss: LossPolicy
  ) throws -> Position {
    do { return try log.resolve(beginning) } catch TopicError.positionLost(let asked, let earliest) {
      let loss = TopicLoss(asked: asked, earliest: earliest)
      feed.options.observer?.didLose(topic: feed.topic, loss)
      guard case .resume(let elsewhere, let told) = onLoss else {
        throw TopicError.positionLost(asked: asked, earliest: earliest)
      }
      told(loss)
      return (try? log.resolve(elsewhere, nearest: earliest)) ?? earliest
    }
  }

  /// Behind what has been read: where a later reader goes on with `.after`.
  public var position: Position { state.withLock { $0.cursor } }

  // MARK: reading

  public nonisolated(nonsending) func read() async throws -> TopicMessage? {
    guard let message = try await available(maxCount: 1)?.first else { return nil }
    didTake(message)
    return message
  }

  /// What is there to be read, up to a count, of which nothing counts as read before `didTake`; waits until there is something.
  /// - Parameter seat: Where the reader is given what comes, instead of waiting for it: then the caller is on the group's loop.
  /// - Returns: nil at the end; one at least otherwise.
  package nonisolated(nonsending) func available(
    maxCount: Int, in seat: (any LiveSeat)? = nil
  ) async throws -> ArraySlice<TopicMessage>? {
    try state.withLock { state in
      if state.isReading { throw StreamError.concurrentRead }
      state.isReading = true
    }
    defer { state.withLock { $0.isReading = false } }
    do {
      return try await next(maxCount, seat)
    } catch let error where error is CancellationError || state.withLock({ $0.interruption != nil }) {
      throw error
    } catch {
      state.withLock { if case .open = $0.end { $0.end = .failed(error) } }
      leave()
      throw error
    }
  }

  /// A message was taken, and all before it.
  package func didTake(_ message: TopicMessage) {
    state.withLock { state in
      state.cursor = message.position
      while let first = state.slice.first, first.position.offset <= message.position.offset {
        state.slice.removeFirst()
      }
    }
  }

  /// It will not read for a while: what can be read again is not kept.
  package func dropHeld() { state.withLock { $0.slice = [] } }

  private nonisolated(nonsending) func next(
    _ maxCount: Int, _ seat: (any LiveSeat)?
  ) async throws -> ArraySlice<TopicMessage>? {
    var attempt = 0
    while true {
      let (cursor, revision, held) = try state.withLock { state -> (Position, Int, ArraySlice<TopicMessage>?) in
        if let interruption = state.interruption { throw interruption }
        switch state.end {
        case .open: break
        case .cancelled: return (state.cursor, -1, [])
        case .failed(let error): throw error
        }
        state.wait = .none
        return (state.cursor, state.revision, state.slice.isEmpty ? nil : state.slice.prefix(maxCount))
      }
      if let held { return held.isEmpty ? nil : held }
      switch feed.take(after: cursor, revision: revision, maxCount: maxCount, for: seat == nil ? self : nil) {
      case .messages(let messages):
        didJoinRing()
        return messages[...]
      case .wait:
        didJoinRing()
        seat?.join(at: RingPlace(position: cursor, revision: revision))
        defer { seat?.leave() }
        try await waitForWake()
      case .closed: throw TopicError.closed
      case .behind(let current):
        if let skipped = try fallBehind(current, revision) { return skipped }
        if let messages = try await readLog(after: cursor, revision: current, &attempt) { return messages }
      }
    }
  }

  private func didJoinRing() {
    let wasCatchingUp = state.withLock { state in
      state.isInRing = true
      defer { state.isCatchingUp = false }
      return state.isCatchingUp
    }
    if wasCatchingUp { feed.catchUp.leave() }
  }

  /// What it has to read next is not in the ring.
  /// - Returns: what it takes instead, by its policy.
  private func fallBehind(_ current: Int, _ revision: Int) throws -> ArraySlice<TopicMessage>? {
    let (hasFallen, begins) = state.withLock { state in
      let hasFallen = state.isInRing && current == revision
      let begins = !state.isCatchingUp
      state.isInRing = false
      state.isCatchingUp = true
      return (hasFallen, begins)
    }
    if begins { feed.catchUp.enter() }
    guard hasFallen else { return nil }
    feed.options.observer?.didFallBehind(topic: feed.topic)
    switch policy {
    case .readLog: return nil
    case .disconnect: throw TopicError.tooSlow
    case .latest:
      guard let (newest, revision) = feed.newest() else { return nil }
      state.withLock { $0.revision = revision }
      return [newest]
    }
  }

  /// - Returns: nil if the ring is to be looked at again.
  private nonisolated(nonsending) func readLog(
    after cursor: Position, revision: Int, _ attempt: inout Int
  ) async throws -> ArraySlice<TopicMessage>? {
    do {
      let messages = try await feed.catchUp.messages(after: cursor)
      state.withLock { state in
        state.revision = revision
        state.slice = messages
      }
      // The engine has nothing yet that the ring has heard of, or has forgotten what the ring has: the one or the other follows.
      if messages.isEmpty {
        attempt += 1
        if attempt > 1 { try await pause(for: .milliseconds(10)) }
      }
      return nil
    } catch TopicError.positionLost(let asked, let earliest) {
      try await lose(TopicLoss(asked: asked, earliest: earliest))
      return nil
    } catch let error as TopicError {
      guard case .unavailable = error else { throw error }
      attempt += 1
      try await pause(for: .milliseconds(Int64.random(in: 10...(100 << Swift.min(attempt, 6)))))
      return nil
    }
  }

  private nonisolated(nonsending) func lose(_ loss: TopicLoss) async throws {
    feed.options.observer?.didLose(topic: feed.topic, loss)
    guard case .resume(let beginning, let told) = onLoss else {
      throw TopicError.positionLost(asked: loss.asked, earliest: loss.earliest)
    }
    told(loss)
    var cursor = loss.earliest
    switch beginning {
    case .earliest: break
    case .now, .last, .after:
      let log = try await feed.currentState().log
      cursor = (try? log.resolve(beginning, nearest: loss.earliest)) ?? loss.earliest
    }
    let place = cursor
    state.withLock { state in
      state.cursor = place
      state.revision = -1
    }
  }

  // MARK: waiting

  private nonisolated(nonsending) func waitForWake() async throws {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let mustWait = state.withLock { state in
          if case .woken = state.wait { return false }
          guard case .open = state.end, state.interruption == nil, !Task.isCancelled else { return false }
          state.wait = .waiting(continuation)
          return true
        }
        if !mustWait { continuation.resume() }
      }
    } onCancel: {
      wake()
    }
    if Task.isCancelled {
      feed.forget(self)
      throw CancellationError()
    }
  }

  /// There may be something to be read.
  package func wake() {
    let continuation = state.withLock { state -> CheckedContinuation<Void, Never>? in
      defer { state.wait = .woken }
      if case .waiting(let continuation) = state.wait { return continuation }
      return nil
    }
    continuation?.resume()
  }

  // MARK: ending

  /// Has `available` throw an error, now and from now on, though the topic goes on: what it was read for has ended.
  package func interrupt(_ error: any Error) {
    state.withLock { $0.interruption = error }
    wake()
  }

  public func cancel(_ reason: (any Error)?) {
    state.withLock { state in
      if case .open = state.end { state.end = .cancelled }
      state.slice = []
    }
    leave()
    wake()
  }

  private func leave() {
    let (mustLeave, wasCatchingUp) = state.withLock { state in
      defer {
        state.hasLeft = true
        state.isCatchingUp = false
      }
      return (!state.hasLeft, state.isCatchingUp)
    }
    if wasCatchingUp { feed.catchUp.leave() }
    if mustLeave { feed.leave(core) }
  }
}

extension LogState {
  /// - Parameter nearest: What `.earliest` means, behind a loss.
  fileprivate func resolve(_ beginning: TopicBeginning, nearest: Position? = nil) throws -> Position {
    switch beginning {
    case .now: return end
    case .earliest: return nearest ?? start
    case .last(let count): return position(beforeLast: count)
    case .after(let position):
      _ = try successor(of: position)
      return position
    }
  }
}
