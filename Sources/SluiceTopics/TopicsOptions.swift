/// How topics are read and written. What it costs: each topic that somebody reads holds `ringBytes`, and `catchUpBytes` while somebody catches up;
/// each topic that is written to, `maxPendingBytes`.
public struct TopicsOptions: Sendable {
  /// How much of each log is kept, where a topic has no limits of its own.
  public var limits = LogLimits()
  /// Bytes of the newest messages of a topic that this process holds for its readers, payloads and 256 for each. What they are framed as, for WebSockets and for
  /// event streams, comes on top: as much again for each. Default: 1 MiB.
  public var ringBytes = 1 << 20
  /// Bytes of a log that are read at a time for those who catch up, and that are held for others who need the same. Default: 1 MiB; a fourth is read at a time.
  public var catchUpBytes = 1 << 20
  /// Reads of logs that are under way at once, of all topics; the others wait their turn. Default: 4.
  public var maxCatchUpReads = 4
  /// Appends of a topic that may be under way or wait, before the next waits for room. Default: 4096.
  public var maxPendingAppends = 4096
  /// The same in bytes. Default: 4 MiB.
  public var maxPendingBytes = 4 << 20
  /// Appends that one writer, or one that has joined, may have under way before its next write waits. Default: 256.
  public var writeWindow = 256
  /// The same in bytes. Default: 256 KiB.
  public var writeWindowBytes = 256 << 10
  /// Bytes of one message. Default: 1 MiB.
  public var maxMessageBytes = 1 << 20
  /// How long an append may take, with all attempts that a lost connection makes necessary, before it fails. Default: 10 seconds.
  public var appendTimeout = Duration.seconds(10)
  /// How long the subscription to a topic is kept when its last reader has gone. Default: 10 seconds.
  public var idleTimeout = Duration.seconds(10)
  public var observer: (any TopicObserver)?

  public init() {}
}
