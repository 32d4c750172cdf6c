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
    case .requestTimeout(let time): "no complete request head within \(time)"
    case .stalled(let time): "the client neither sent nor read anything for \(time)"
    case .wrongLength(let promised, let given):
      "the response body has \(given) bytes, but Content-Length promised \(promised)"
    }
  }
}
