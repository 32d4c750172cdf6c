import DequeModule
import SluiceStreams
import Synchronization

/// Logs in this process: they end with it.
package final class MemoryTopicEngine: TopicEngine {
  private let logs = Mutex<[String: MemoryLog]>([:])

  package init() {}

  private func log(_ topic: String) -> MemoryLog {
    logs.withLock { logs in
      if let log = logs[topic] { return log }
      let log = MemoryLog()
      logs[topic] = log
      return log
    }
  }

  package func state(of topic: String) async throws -> LogState { log(topic).state }

  package func read(
    _ topic: String, after offset: UInt64, maxCount: Int, maxBytes: Int
  ) async throws -> LogSlice {
    log(topic).read(after: offset, maxCount: maxCount, maxBytes: maxBytes)
  }

  package func append(_ batch: AppendBatch, to topic: String, limits: LogLimits) async throws -> Position {
    log(topic).append(batch, limits)
  }

  package var appendsAtOnce: Bool { true }

  package func appendAtOnce(_ batch: AppendBatch, to topic: String, limits: LogLimits) -> Position? {
    log(topic).append(batch, limits)
  }

  package func follow(
    _ topic: String, after position: Position, _ deliver: @escaping @Sendable (Delivery) -> Void
  ) -> any Following {
    log(topic).follow(after: position.offset, deliver)
  }

  package func names() async throws -> [String] {
    logs.withLock { logs in logs.filter { $0.value.size != nil }.map(\.key) }
  }

  package func size(of topic: String) async throws -> LogSize? { logs.withLock { $0[topic] }?.size }

  package func trim(_ topic: String, to limits: LogLimits) async throws -> Int {
    logs.withLock { $0[topic] }?.trim(to: limits) ?? 0
  }

  package func close() async { logs.withLock { $0 = [:] } }

  /// Subscriptions that have not been stopped: what a leak shows in.
  package var followerCount: Int { logs.withLock { $0.values.reduce(0) { $0 + $1.followerCount } } }

  /// Begins a log anew, as if its data had been lost.
  package func wipe(_ topic: String) { log(topic).wipe() }
}

private final class MemoryLog: Sendable {
  private struct State {
    var epoch = LogEpoch(name: LogEpoch.newName(), first: 1, last: 0)
    var messages = Deque<TopicMessage>()
    var byteCount = 0
    var writers = WriterNumbers()
    var followers: [Int: @Sendable (Delivery) -> Void] = [:]
    var nextFollower = 0

    var log: LogState { LogState(epoch: epoch, earliest: messages.first?.position.offset) }
  }
  private let lock = Mutex(State())

  var state: LogState { lock.withLock { $0.log } }
  var followerCount: Int { lock.withLock { $0.followers.count } }

  var size: LogSize? {
    lock.withLock { state in
      state.messages.isEmpty ? nil : LogSize(count: state.messages.count, byteCount: state.byteCount)
    }
  }

  func trim(to limits: LogLimits) -> Int {
    lock.withLock { state in
      let before = state.messages.count
      Self.trim(&state, limits, WallClock.now)
      return before - state.messages.count
    }
  }

  func read(after offset: UInt64, maxCount: Int, maxBytes: Int) -> LogSlice {
    lock.withLock { state in
      LogSlice(Self.slice(of: state.messages, after: offset, maxCount, maxBytes), state.log)
    }
  }

  private static func slice(
    of messages: Deque<TopicMessage>, after offset: UInt64, _ maxCount: Int, _ maxBytes: Int
  ) -> [TopicMessage] {
    guard let first = messages.first?.position.offset else { return [] }
    var slice: [TopicMessage] = []
    var byteCount = 0
    // Numbers follow each other: the log has one epoch.
    var index = offset < first ? 0 : Int(clamping: offset - first) + 1
    while index < messages.count, slice.count < maxCount {
      byteCount += messages[index].byteCount
      if byteCount > maxBytes && !slice.isEmpty { break }
      slice.append(messages[index])
      index += 1
    }
    return slice
  }

  /// Followers are told under the lock, so that they are told in order.
  func append(_ batch: AppendBatch, _ limits: LogLimits) -> Position {
    lock.withLock { state in
      if let offset = state.writers.offset(of: batch) {
        return Position(epoch: state.epoch.name, offset: offset)
      }
      let behind = state.epoch.last
      let now = WallClock.now
      var added: [TopicMessage] = []
      added.reserveCapacity(batch.contents.count)
      for content in batch.contents {
        state.epoch.last += 1
        var content = content
        content.bytes = content.bytes.compacted()
        let message = TopicMessage(
          position: Position(epoch: state.epoch.name, offset: state.epoch.last), content: content, time: now)
        state.byteCount += message.byteCount
        state.messages.append(message)
        added.append(message)
      }
      state.writers.didAppend(batch, lastOffset: state.epoch.last)
      Self.trim(&state, limits, now)
      for deliver in state.followers.values { deliver(Delivery(added, behind: behind)) }
      return Position(epoch: state.epoch.name, offset: state.epoch.last)
    }
  }

  private static func trim(_ state: inout State, _ limits: LogLimits, _ now: Duration) {
    while state.messages.count > 1, let oldest = state.messages.first {
      let isOld = limits.age.map { now - oldest.time > $0 } ?? false
      let isBeyondBytes = limits.bytes.map { state.byteCount > $0 } ?? false
      guard isOld || isBeyondBytes || state.messages.count > max(limits.count, 1) else { return }
      state.byteCount -= oldest.byteCount
      state.messages.removeFirst()
    }
  }

  func follow(after offset: UInt64, _ deliver: @escaping @Sendable (Delivery) -> Void) -> any Following {
    let number = lock.withLock { state in
      let missed = Self.slice(of: state.messages, after: offset, .max, .max)
      if let first = missed.first { deliver(Delivery(missed, behind: first.position.offset - 1)) }
      state.nextFollower += 1
      state.followers[state.nextFollower] = deliver
      return state.nextFollower
    }
    return MemoryFollowing(log: self, number: number)
  }

  func stopFollowing(_ number: Int) { lock.withLock { $0.followers[number] = nil } }

  func wipe() {
    lock.withLock { state in
      let first = state.epoch.last + 1000
      state.messages = []
      state.byteCount = 0
      state.writers = WriterNumbers()
      state.epoch = LogEpoch(name: LogEpoch.newName(), first: first, last: first - 1)
    }
  }
}

private struct MemoryFollowing: Following {
  let log: MemoryLog
  let number: Int

  func stop() { log.stopFollowing(number) }
}

/// What each writer has appended last, of those that have appended lately.
private struct WriterNumbers {
  private struct Last {
    var number: UInt64
    var offset: UInt64
    var turn: UInt64
  }
  private var writers: [String: Last] = [:]
  private var turn: UInt64 = 0
  private static let maxWriters = 1024

  /// - Returns: the offset of the writer's newest message, if the batch is stored.
  func offset(of batch: AppendBatch) -> UInt64? {
    writers[batch.writer].flatMap { batch.lastNumber <= $0.number ? $0.offset : nil }
  }

  mutating func didAppend(_ batch: AppendBatch, lastOffset: UInt64) {
    turn += 1
    writers[batch.writer] = Last(number: batch.lastNumber, offset: lastOffset, turn: turn)
    guard writers.count > 2 * Self.maxWriters else { return }
    let oldest = writers.values.map(\.turn).sorted()[Self.maxWriters]
    writers = writers.filter { $0.value.turn >= oldest }
  }
}
