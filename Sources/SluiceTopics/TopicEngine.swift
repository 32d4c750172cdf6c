import SluiceStreams

/// What keeps the logs of topics.
///
/// A log is numbered: the messages of one epoch follow each other without a gap, and those of a later epoch have higher numbers. So a gap is seen by
/// everybody who reads, and is either the step from one epoch to the next or a loss.
package protocol TopicEngine: AnyObject, Sendable {
  /// What there is of a log. A log that nobody has appended to has an epoch too.
  /// - Throws: `TopicError.unavailable`, `.refused`.
  func state(of topic: String) async throws -> LogState

  /// The messages behind a number, from the oldest that there is on: as many as are within both limits, but one at least if there is one.
  /// The state is as new as they are.
  func read(_ topic: String, after offset: UInt64, maxCount: Int, maxBytes: Int) async throws -> LogSlice

  /// Stores all messages of a batch, in order and behind one another, or none; and once, however often it is asked to for one number of one writer.
  /// - Returns: where the last one stands; of what was stored before, where the writer's newest does.
  /// - Throws: `TopicError.unavailable` if that is not known, or may be otherwise soon; anything else is final.
  func append(_ batch: AppendBatch, to topic: String, limits: LogLimits) async throws -> Position

  /// Whether `appendAtOnce` does anything.
  var appendsAtOnce: Bool { get }

  /// As `append`, for an engine that need not wait; nil for one that must.
  func appendAtOnce(_ batch: AppendBatch, to topic: String, limits: LogLimits) throws -> Position?

  /// Delivers what is appended behind a position, in order, until `stop` is called on what is returned. A lost connection is the engine's own matter.
  func follow(_ topic: String, after position: Position, _ deliver: @escaping @Sendable (Delivery) -> Void)
    -> any Following

  /// The names of the topics that have messages.
  func names() async throws -> [String]

  /// How much a log has; nil if there is no message.
  func size(of topic: String) async throws -> LogSize?

  /// Trims a log as an append would, but for the append.
  /// - Returns: how many messages are gone.
  func trim(_ topic: String, to limits: LogLimits) async throws -> Int

  /// Lets go of everything. What waits fails.
  func close() async
}

extension TopicEngine {
  package var appendsAtOnce: Bool { false }

  package func appendAtOnce(_ batch: AppendBatch, to topic: String, limits: LogLimits) throws -> Position? { nil }

  package func names() async throws -> [String] { throw TopicError.refused("this engine does not list its topics") }
  package func size(of topic: String) async throws -> LogSize? {
    throw TopicError.refused("this engine does not say how much a topic has")
  }
  package func trim(_ topic: String, to limits: LogLimits) async throws -> Int {
    throw TopicError.refused("this engine trims when something is appended, and not before")
  }
}

/// How much a log has.
package struct LogSize: Hashable, Sendable {
  package let count: Int
  /// Of the messages and their event types.
  package let byteCount: Int

  package init(count: Int, byteCount: Int) {
    self.count = count
    self.byteCount = byteCount
  }
}

/// A subscription of an engine.
package protocol Following: Sendable {
  /// Nothing is delivered once this has returned, but for a delivery that is under way.
  func stop()
}

/// New messages of a log.
package struct Delivery: Sendable {
  package let messages: [TopicMessage]
  /// The number that they follow directly: nothing is between.
  package let behind: UInt64

  package init(_ messages: [TopicMessage], behind: UInt64) {
    self.messages = messages
    self.behind = behind
  }
}

/// Messages of one writer that are to be stored together.
package struct AppendBatch: Sendable {
  package var contents: [TopicContent]
  /// Who appends: 1 to 64 characters of those of a position.
  package let writer: String
  /// The writer's number of the first; each has one more than the one before it.
  package let firstNumber: UInt64

  package init(_ contents: [TopicContent], writer: String, firstNumber: UInt64) {
    self.contents = contents
    self.writer = writer
    self.firstNumber = firstNumber
  }

  package var lastNumber: UInt64 { firstNumber &+ UInt64(contents.count) &- 1 }
}

package struct LogSlice: Sendable {
  package let messages: [TopicMessage]
  package let state: LogState

  package init(_ messages: [TopicMessage], _ state: LogState) {
    self.messages = messages
    self.state = state
  }

  /// Up to the first number that is missing, if somebody else has taken messages out of the log: so that those who read across are told of a loss.
  /// - Parameter offset: What was read is behind it.
  package func withoutGaps(behind offset: UInt64) -> LogSlice {
    guard let first = messages.first, let earliest = state.earliest else { return self }
    var last = state.position(of: max(offset, earliest - 1))
    if first.position.offset != last.offset + 1, let next = try? state.successor(of: last),
      next < first.position.offset
    {
      return LogSlice(messages, state.whole(from: first.position.offset)).withoutGaps(behind: first.position.offset - 1)
    }
    last = first.position
    for (index, message) in messages.enumerated().dropFirst() {
      let position = message.position
      let isNext =
        position.epoch == last.epoch && position.offset == last.offset + 1
        || (try? state.successor(of: last)) == position.offset
      guard isNext else { return LogSlice(Array(messages[..<index]), state) }
      last = position
    }
    return self
  }
}
