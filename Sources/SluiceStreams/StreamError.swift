/// What a stream refuses, whatever its elements are.
public enum StreamError: Error, Hashable, Sendable {
  /// `read` was called while another read was waiting, which still gets its element.
  case concurrentRead
  /// `write` was called while another write was waiting, which goes on.
  case concurrentWrite
  /// The half was closed, by this side or by the peer: it takes no more elements.
  case closed
  /// The stream was aborted or cancelled by this side without a reason.
  case aborted
  /// More than the limit was read before an end or a separator.
  case limitExceeded(what: String, limit: Int, actual: Int)
  /// The source ended inside an element that promised more.
  case truncated(what: String, expected: Int, actual: Int)
  /// The branch was cut off by its `.disconnect` policy: its reader was slower than the others by this many bytes.
  case tooSlow(bufferedBytes: Int)
  /// One direction of a bridge had ended, and the other was silent beyond the time limit.
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
