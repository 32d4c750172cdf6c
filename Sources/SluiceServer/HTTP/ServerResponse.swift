import HTTPTypes
import SluiceEventSource
import SluiceHTTP
import SluiceStreams

/// What a route's handler answers.
///
/// ```swift
/// .respond("/health") { _ in .text("ok") },
/// .respond("/log") { _ in .stream(try await File.open("app.log"), type: "text/plain") },
/// .respond("/ask", methods: [.post]) { request in
///   let question: Bytes = try await request.body.collect(limit: 1 << 20)
///   return .events { events in for try await word in answer(to: question) { try await events.send(word) } }
/// },
/// ```
public struct ServerResponse: Sendable {
  /// 200-599. 204, 205 and 304 have no body; one that is given is not sent.
  public var status: Int
  /// Beside those that the server writes itself: Connection, Content-Length, Date, Transfer-Encoding.
  public var fields: HTTPFields
  public var body: Body
  /// What the connection becomes, instead of a body.
  private(set) var events: EventAnswer?

  struct EventAnswer: Sendable {
    let options: EventSourceServerOptions
    let handler: @Sendable (EventStreamConnection) async throws -> Void
  }

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

  /// An event stream, in answer to a request of any method: what a POST asks for. It is the last that the connection answers; what its handler does is as for
  /// `EventSource.serve`. What was not read of the request's body is dropped. The options' `onRequest` is not asked: this is its answer.
  /// - Parameter fields: Fields of this answer, beside the options'.
  public static func events(
    fields: HTTPFields = HTTPFields(), options: EventSourceServerOptions = EventSourceServerOptions(),
    _ handler: @escaping @Sendable (EventStreamConnection) async throws -> Void
  ) -> ServerResponse {
    var response = ServerResponse(fields: fields)
    response.events = EventAnswer(options: options, handler: handler)
    return response
  }

  init(_ rejection: RequestRejection) {
    self = .text(rejection.reason + "\n", status: rejection.status)
    fields.append(contentsOf: rejection.fields)
  }
}
