/// What a stream refuses, whatever it is a stream of.
public enum StreamError: Error, Hashable, Sendable {
  /// A `read` was called while another one waits. The first one still gets its element.
  case concurrentRead
  /// A `write` was called while another one waits. The first one goes on.
  case concurrentWrite
  /// The half was closed, by this side or by the peer: it takes no more elements.
  case closed
  /// The stream was aborted or cancelled by this side without a reason.
  case aborted
  /// More than the limit was read before an end or a separator came.
  case limitExceeded(what: String, limit: Int, actual: Int)
  /// The source ended inside an element that promised more.
  case truncated(what: String, expected: Int, actual: Int)
  /// The branch was cut off by its `.disconnect` policy: its reader was slower than the others by this many bytes.
  case tooSlow(bufferedBytes: Int)
  /// One direction of a bridge had ended, and the other did not within the time limit.
  case halfCloseTimeout(Duration)
}

extension StreamError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .concurrentRead: "another read is already waiting; a stream has one reader at a time"
    case .concurrentWrite: "another write is already waiting; a stream has one writer at a time"
    case .closed: "the stream is closed for writing"
    case .aborted: "the stream was aborted"
    case .limitExceeded(let what, let limit, let actual): "\(what) is too large: \(actual) (limit \(limit))"
    case .truncated(let what, let expected, let actual):
      "the source ended inside \(what), after \(actual) of \(expected) bytes"
    case .tooSlow(let bytes): "the branch was disconnected: its reader is \(bytes) bytes behind"
    case .halfCloseTimeout(let time): "one direction ended, and the other was silent for \(time)"
    }
  }
}
