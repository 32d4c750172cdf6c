/// What a topic refuses, or could not do.
public enum TopicError: Error, Hashable, Sendable {
  /// Messages behind the position that was asked for are not there any more: they were trimmed, or the engine has lost them.
  /// - Parameter earliest: From where on the log is whole. The nearest place to go on from.
  case positionLost(asked: Position, earliest: Position)
  /// A topic's name is 1 to 200 of letters, digits, `.`, `_`, `-` and `:`.
  case invalidName(String)
  /// An append was not confirmed. If `mayBeStored`, its request had left: it is stored, or not, which is not known.
  case appendFailed(mayBeStored: Bool, reason: String)
  /// Bytes of one message, beyond `TopicsOptions.maxMessageBytes`.
  case messageTooLarge(limit: Int, actual: Int)
  /// The reader was slower than its policy `.disconnect` allows: what it had to read next had left the ring.
  case tooSlow
  /// The engine could not be reached, or did not answer within its time limit.
  case unavailable(String)
  /// The engine answered that it does not do this: permissions, its memory, a wrong kind of data. Asking again does not help.
  case refused(String)
  /// The server's certificate is not to be trusted, or the server does not take ours.
  case untrusted(String)
  /// `Topics.close` was called.
  case closed
}

extension TopicError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .positionLost(let asked, let earliest):
      "messages after \(asked) are lost; the log is whole from \(earliest) on"
    case .invalidName: "a topic's name is 1 to 200 letters, digits and . _ - :"
    case .appendFailed(let mayBeStored, let reason):
      "an append was not confirmed (\(mayBeStored ? "it may be stored" : "it is not stored")): \(reason)"
    case .messageTooLarge(let limit, let actual): "a message of \(actual) bytes is too large (limit \(limit))"
    case .tooSlow: "the reader was too slow for its policy"
    case .unavailable(let reason): "the topics' engine is not available: \(reason)"
    case .refused(let reason): "the topics' engine refuses: \(reason)"
    case .untrusted(let reason): "the topics' engine is not trusted: \(reason)"
    case .closed: "the topics were closed"
    }
  }
}
