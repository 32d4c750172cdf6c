/// Why a server cut a connection.
public enum HTTPServerError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The head of a request was not there in time.
  case requestTimeout(Duration)
  /// A body did not go on: the client sent, or took, nothing for so long.
  case stalled(Duration)
  /// A handler's stream did not give as many bytes as it had said.
  case wrongLength(promised: Int, given: Int)

  public var description: String {
    switch self {
    case .requestTimeout(let time): "the request's head was not there within \(time)"
    case .stalled(let time): "the client sent or took nothing for \(time)"
    case .wrongLength(let promised, let given): "a body of \(promised) bytes was promised, and \(given) were given"
    }
  }
}
