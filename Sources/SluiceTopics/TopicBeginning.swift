/// Where reading a topic begins.
public enum TopicBeginning: Hashable, Sendable {
  /// With what is appended from now on.
  case now
  /// With the oldest message that the log has.
  case earliest
  /// With the newest messages: so many, or all that there are. 0 or less is `now`.
  case last(Int)
  /// With the message behind a position. If that is not there any more, that is an error, and not silence: see `LossPolicy`.
  case after(Position)
}

/// What is to happen when messages that a reader has not read are not there any more.
public enum LossPolicy: Sendable {
  /// Reading throws `TopicError.positionLost`.
  case fail
  /// Reading goes on elsewhere. `told` is called first; `.earliest` means the nearest place where the log is whole.
  case resume(from: TopicBeginning, told: @Sendable (TopicLoss) -> Void)

  /// Reading goes on elsewhere, and nobody is told.
  public static func resume(from beginning: TopicBeginning) -> LossPolicy { .resume(from: beginning) { _ in } }
}

/// Messages that were not there any more.
public struct TopicLoss: Hashable, Sendable {
  /// Behind what had been read.
  public let asked: Position
  /// From where on the log is whole.
  public let earliest: Position

  public init(asked: Position, earliest: Position) {
    self.asked = asked
    self.earliest = earliest
  }
}

/// What happens to a reader that is so slow that what it has to read next has left the ring.
public enum SlowReaderPolicy: Hashable, Sendable {
  /// It goes on from the engine's log at its own speed, and misses nothing.
  case readLog
  /// It goes on with the newest message, and misses those between.
  case latest
  /// Reading throws `TopicError.tooSlow`.
  case disconnect
}

/// How much of a log is kept. What is beyond a limit is trimmed, the oldest first, when something is appended.
public struct LogLimits: Hashable, Sendable {
  /// Messages, 1 or more. Default: 100,000.
  public var count: Int
  /// Bytes of all messages and their event types; the newest message stays in any case. Default: 64 MiB. nil: no limit.
  public var bytes: Int?
  /// Time since the append. Default: nil, no limit.
  public var age: Duration?

  public init(count: Int = 100_000, bytes: Int? = 64 << 20, age: Duration? = nil) {
    self.count = count
    self.bytes = bytes
    self.age = age
  }
}
