import SluiceStreams

/// A log with a name: what is appended to it has a position, and is read from any position on, by any number of readers.
///
/// ```swift
/// let room = try rooms.topic("rooms.lobby")
/// try await room.append("hello")
/// for try await message in try await room.messages(from: .last(10)) { print(message.position, message.text) }
/// ```
/// A value without a cost of its own: all that name the same topic of a `Topics` share one ring and one queue.
public struct Topic: Sendable {
  let core: TopicCore

  public var name: String { core.name }

  /// Appends a message, and returns its position when the engine has stored it.
  ///
  /// Appends of many tasks are stored together. What a lost connection leaves open is asked again, and stored once.
  /// - Throws: `TopicError.appendFailed` when `appendTimeout` is over; `messageTooLarge`, `refused`, `closed`; `CancellationError`, and then it may be stored.
  @discardableResult
  public nonisolated(nonsending) func append(_ content: TopicContent) async throws -> Position {
    try await core.appender.append(content)
  }

  /// Appends a text, with an event type or without.
  @discardableResult
  public nonisolated(nonsending) func append(_ text: String, event: String? = nil) async throws -> Position {
    try await append(TopicContent(text, event: event))
  }

  /// Appends binary data.
  @discardableResult
  public nonisolated(nonsending) func append(_ bytes: Bytes) async throws -> Position {
    try await append(TopicContent(kind: .binary, bytes: bytes))
  }

  /// Appends as another writer would, with numbers of that writer's own: a number that is not greater than all before is not stored again, and the position of
  /// the writer's newest message is returned. For what comes from a source that numbers its messages and may repeat them.
  /// - Parameters:
  ///   - writer: 1 to 62 letters, digits, `.`, `_` and `-`. One task appends for it at a time. An engine remembers its last number for a day.
  ///   - number: More than that of the writer's append before; up to 2^53.
  /// - Throws: As `append`; `TopicError.unavailable` at once when the engine is: the caller repeats it.
  @discardableResult
  public nonisolated(nonsending) func append(
    _ content: TopicContent, as writer: String, number: UInt64
  ) async throws -> Position {
    try await core.append(content, as: writer, number: number)
  }

  /// Reads from a beginning on, through what the log has, and on with what is appended.
  /// - Parameters:
  ///   - onLoss: What happens when messages are not there any more. Default: reading throws `TopicError.positionLost`.
  ///   - whenSlow: What happens to a reader that the ring has left behind. Default: it reads the log, and misses nothing.
  /// - Throws: `TopicError.positionLost`, `unavailable`, `refused`, `closed`.
  public func messages(
    from beginning: TopicBeginning = .now, onLoss: LossPolicy = .fail, whenSlow: SlowReaderPolicy = .readLog
  ) async throws -> TopicReader {
    try await TopicReader.open(core, from: beginning, whenSlow, onLoss)
  }

  /// A sink for messages to be appended.
  public func writer() -> TopicWriter { TopicWriter(core) }

  /// Both halves: what is read is what is appended from the beginning on, what is written is appended.
  public func joined(
    from beginning: TopicBeginning = .now, onLoss: LossPolicy = .fail, whenSlow: SlowReaderPolicy = .readLog
  ) async throws -> JoinedTopic {
    JoinedStream(reading: try await messages(from: beginning, onLoss: onLoss, whenSlow: whenSlow), writing: writer())
  }

  /// Behind the newest message: to load a state that is at least as new as this, and then to follow from here.
  public func position() async throws -> Position {
    try await core.state().end
  }

  /// Before the oldest message that there is.
  public func earliestPosition() async throws -> Position {
    try await core.state().start
  }
}

extension Topic {
  /// What there is of the log now; nil if there is no message.
  /// - Throws: `TopicError.unavailable`, `.refused`.
  public func summary() async throws -> TopicSummary? { try await core.summary() }

  /// Trims the log, the oldest messages first, as an append with these limits would; the newest message stays.
  ///
  /// Readers that have not read what is trimmed are told, by `TopicError.positionLost`.
  /// - Returns: how many messages are gone.
  /// - Throws: `TopicError.unavailable`, `.refused`.
  @discardableResult
  public func trim(to limits: LogLimits) async throws -> Int { try await core.trim(to: limits) }
}

/// What there is of a topic's log.
public struct TopicSummary: Hashable, Sendable {
  /// Messages.
  public let count: Int
  /// Bytes of the messages and their event types.
  public let byteCount: Int
  /// Before the oldest message.
  public let earliest: Position
  /// Behind the newest message.
  public let newest: Position
  /// When the oldest message was stored, since 1970-01-01 UTC; nil if it was trimmed just now.
  public let earliestTime: Duration?
  /// The same of the newest.
  public let newestTime: Duration?
}

/// A topic that is read and written: see `Topic.joined`.
public typealias JoinedTopic = JoinedStream<TopicReader, TopicWriter>

/// What all values of one topic share.
final class TopicCore: Sendable {
  let name: String
  let options: TopicsOptions
  let feed: TopicFeed
  let appender: TopicAppender
  private let engine: any TopicEngine
  private let limits: LogLimits

  init(
    _ name: String, _ engine: any TopicEngine, _ limits: LogLimits, _ options: TopicsOptions, permits: WaitingLine
  ) {
    self.name = name
    self.engine = engine
    self.limits = limits
    self.options = options
    feed = TopicFeed(name, engine, options, permits: permits)
    appender = TopicAppender(name, engine, limits, options)
  }

  nonisolated(nonsending) func state() async throws -> LogState { try await engine.state(of: name) }

  nonisolated(nonsending) func append(
    _ content: TopicContent, as writer: String, number: UInt64
  ) async throws -> Position {
    guard Position("\(writer).0") != nil else {
      throw TopicError.refused("a writer's identity is 1 to 62 letters, digits and . _ -")
    }
    guard content.byteCount <= options.maxMessageBytes else {
      throw TopicError.messageTooLarge(limit: options.maxMessageBytes, actual: content.byteCount)
    }
    return try await engine.append(
      AppendBatch([content], writer: "n-" + writer, firstNumber: number), to: name, limits: limits)
  }

  func summary() async throws -> TopicSummary? {
    guard let size = try await engine.size(of: name) else { return nil }
    let state = try await engine.state(of: name)
    let oldest = try await engine.read(name, after: state.start.offset, maxCount: 1, maxBytes: 1)
    let newest = try await engine.read(name, after: state.position(beforeLast: 1).offset, maxCount: 1, maxBytes: 1)
    return TopicSummary(
      count: size.count, byteCount: size.byteCount, earliest: state.start, newest: state.end,
      earliestTime: oldest.messages.first?.time, newestTime: newest.messages.first?.time)
  }

  func trim(to limits: LogLimits) async throws -> Int { try await engine.trim(name, to: limits) }

  func close() {
    feed.close()
    appender.close()
  }
}
