import HTTPTypes
import SluiceHTTP
import SluiceStreams

/// What went wrong with an event stream that was not refused.
public enum EventSourceError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The connection ended before the head had come.
  case endedEarly
  /// The head was not there in time.
  case timeout(Duration)
  /// A client got nothing for so long, not even a comment.
  case silence(Duration)
  /// A server's client has taken nothing of what was sent for so long.
  case stalled(Duration)
  /// A client got another answer than 200; `bodyStart` has the first bytes of its body.
  case refused(status: Int, headers: HTTPFields, bodyStart: Bytes)
  /// A client got something else than `text/event-stream`.
  case wrongContentType(String)
  /// The answer is not HTTP, or beyond a limit.
  case malformedResponse(HTTPHeadError)
  /// A body in a form that is not understood.
  case unsupportedBody(String)
  /// The connection ended inside the body.
  case truncated
  /// A redirect that is not followed, and why.
  case redirect(String)
  /// There is no memory for a compression context.
  case outOfMemory

  public var description: String {
    switch self {
    case .endedEarly: "the connection ended before the head had come"
    case .timeout(let time): "the head was not there within \(time)"
    case .silence(let time): "the server sent nothing for \(time)"
    case .stalled(let time): "the client took nothing for \(time)"
    case .refused(let status, _, _): "the server answered with status \(status) instead of 200"
    case .wrongContentType(let type): "the server answered with '\(type.escapingControls)', not text/event-stream"
    case .malformedResponse(let error): "the server's answer is malformed: \(error)"
    case .unsupportedBody(let what):
      "the server's answer is encoded in a way that is not understood: \(what.escapingControls)"
    case .truncated: "the connection ended inside the stream's body"
    case .redirect(let reason): "the server redirects, and that is not followed: \(reason)"
    case .outOfMemory: "there is no memory for a compression context"
    }
  }
}
