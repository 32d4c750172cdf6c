import HTTPTypes
import SluiceHTTP
import SluiceStreams

/// What a route's handler answers.
///
/// ```swift
/// .respond("/health") { _ in .text("ok") }
/// .respond("/log") { _ in .stream(try await File.open("app.log"), type: "text/plain") }
/// ```
public struct ServerResponse: Sendable {
  /// 200-599. 204, 205 and 304 have no body; one that is given is not sent.
  public var status: Int
  /// Beside those that the server writes itself: Connection, Content-Length, Date, Transfer-Encoding.
  public var fields: HTTPFields
  public var body: Body

  public enum Body: Sendable {
    case bytes(Bytes)
    /// Sent as it comes, at the client's pace: chunked, if its length is not known.
    case stream(any ReadableStream<Bytes>, length: Int?)

    func cancel(_ reason: (any Error)?) {
      if case .stream(let stream, _) = self { stream.cancel(reason) }
    }
  }

  public init(status: Int = 200, fields: HTTPFields = HTTPFields(), body: Body = .bytes(Bytes())) {
    self.status = status
    self.fields = fields
    self.body = body
  }

  public static func bytes(_ bytes: Bytes, type: String, status: Int = 200) -> ServerResponse {
    ServerResponse(status: status, fields: [.contentType: type], body: .bytes(bytes))
  }

  /// Plain text in UTF-8.
  public static func text(_ text: String, status: Int = 200) -> ServerResponse {
    bytes(Bytes(text), type: "text/plain; charset=utf-8", status: status)
  }

  /// - Parameter length: Its bytes, if they are known: a stream that gives less or more fails.
  public static func stream(
    _ stream: any ReadableStream<Bytes>, type: String, length: Int? = nil
  ) -> ServerResponse {
    ServerResponse(fields: [.contentType: type], body: .stream(stream, length: length))
  }

  init(_ rejection: RequestRejection) {
    self = .text(rejection.reason + "\n", status: rejection.status)
    fields.append(contentsOf: rejection.fields)
  }
}
