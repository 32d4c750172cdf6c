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
    case .endedEarly: "the connection ended before the response head was complete"
    case .timeout(let time): "no response head within \(time)"
    case .silence(let time): "the server sent nothing for \(time)"
    case .stalled(let time): "the client read nothing for \(time)"
    case .refused(let status, _, _): "the server responded with status \(status) instead of 200"
    case .wrongContentType(let type):
      "the server responded with content type '\(type.escapingControls)' instead of text/event-stream"
    case .malformedResponse(let error): "malformed response from the server: \(error)"
    case .unsupportedBody(let what):
      "unsupported encoding of the response body: \(what.escapingControls)"
    case .truncated: "the connection ended before the response body was complete"
    case .redirect(let reason): "redirect not followed: \(reason)"
    case .outOfMemory: "not enough memory for a compression context"
    }
  }
}
