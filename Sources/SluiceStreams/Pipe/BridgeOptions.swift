/// What a bridge does at an end in one direction, where the stream on the other side can't end one half alone: a WebSocket.
public enum BridgeEndPolicy: String, Hashable, Sendable, CaseIterable {
  /// Hold our Close until the other direction has ended, or been silent for `answerTimeout`: many peers drop what they still had to say once
  /// they have read a Close.
  case afterAnswer = "after-answer"
  /// Close at once and keep reading to the peer's Close: it travels behind the data, so that a peer which answers everything before it closes
  /// is heard.
  case close
  /// Hold our Close until the other direction has ended, however long it is silent (`halfCloseTimeout` holds). Also, a reader that has gone
  /// ends its own direction only.
  case `defer`
  /// End both directions at once. What is unread in the other direction is dropped, and so is what its source says from then on.
  case closeBoth = "close-both"

  /// Whether a Close waits for the other direction.
  var holdsClose: Bool { self == .afterAnswer || self == .defer }
}

/// How a bridge ends. A direction counts as silent while it moves nothing and its sink takes nothing of what it has.
public struct BridgeOptions: Hashable, Sendable {
  /// What happens at an end. A stream that can half-close does so under every policy but `closeBoth`. Default: `afterAnswer`.
  public var onEnd = BridgeEndPolicy.afterAnswer
  /// Under `afterAnswer`: how long the other direction may be silent before we close. Default: 1 second.
  public var answerTimeout = Duration.seconds(1)
  /// How long one direction may be silent after the other has ended; nil for no limit. Default: 30 seconds.
  public var halfCloseTimeout: Duration? = .seconds(30)
  /// When writing to one side has failed: how long to wait, in silence, for what that side says itself, such as a Close or an alert, which is thrown
  /// instead of the failure. Default: 1 second.
  public var lastWordsTimeout = Duration.seconds(1)
  /// When one side has failed: how long either side may read nothing of what the other gave before that is dropped. Default: 30 seconds.
  public var stallTimeout = PipeOptions.defaultStallTimeout

  public init(onEnd: BridgeEndPolicy = .afterAnswer, halfCloseTimeout: Duration? = .seconds(30)) {
    self.onEnd = onEnd
    self.halfCloseTimeout = halfCloseTimeout
  }
}
