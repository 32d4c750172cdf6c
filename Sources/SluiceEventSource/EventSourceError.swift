import HTTPTypes
import SluiceHTTP
import SluiceStreams

/// Why an event stream failed.
public enum EventSourceError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The connection ended before the response head was complete.
  case endedEarly
  /// The response head was not complete in time.
  case timeout(Duration)
  /// The server sent nothing for this long, not even a comment.
  case silence(Duration)
  /// The client has read nothing for this long.
  case stalled(Duration)
  /// The server responded with a status other than 200; `bodyStart` has the first bytes of the body.
  case refused(status: Int, headers: HTTPFields, bodyStart: Bytes)
  /// The response is not `text/event-stream`.
  case wrongContentType(String)
  /// The response is not HTTP, or exceeds a limit.
  case malformedResponse(HTTPHeadError)
  /// A content coding that is not supported.
  case unsupportedBody(String)
  /// The connection ended inside the body.
  case truncated
  /// A redirect that is not followed, and why.
  case redirect(String)
  /// Not enough memory for a compression context.
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
