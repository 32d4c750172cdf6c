import SluiceEventSource
import SluiceHTTP
import SluiceStreams
import SluiceZlib

/// Makes the connections of a client: asks, and follows redirects to the stream. On the client's loop.
struct EventSourceConnector: Sendable {
  private let request: EventSourceRequest
  private let options: EventSourceClientOptions
  private let loop: any Loop
  private let openTransport: EventSourceClient.Opener

  init(
    _ request: EventSourceRequest, _ options: EventSourceClientOptions, on loop: any Loop,
    _ openTransport: @escaping EventSourceClient.Opener
  ) {
    self.request = request
    self.options = options
    self.loop = loop
    self.openTransport = openTransport
  }

  /// - Returns: nil if the server wants no more of it (204, HTML standard §9.2.3).
  func connect(lastEventID: String?) async throws -> EventFeed? {
    var request = request
    let start = loop.now
    for _ in 0...Swift.max(options.maxRedirects, 0) {
      let left = Swift.max(options.connect.timeout - (loop.now - start), .zero)
      let answer = try await ask(request, lastEventID, within: left)
      if let redirect = try redirect(of: answer, from: request.url) {
        answer.transport.abort(StreamError.aborted)
        request.follow(redirect, status: answer.response.status.code)
        continue
      }
      do { return try await answer.feed(options, lastEventID: lastEventID) } catch EventSourceError.refused(204, _, _) {
        return nil
      }
    }
    throw EventSourceError.redirect("too many redirects (limit \(options.maxRedirects))")
  }

  private func redirect(of answer: ServerAnswer, from url: ConnectionURL) throws(EventSourceError) -> Redirect? {
    do {
      return try Redirect(
        status: answer.response.status.code, headers: answer.response.headerFields, from: url,
        schemes: ["http": "http", "https": "https"])
    } catch {
      answer.transport.abort(StreamError.aborted)
      throw .redirect(error.reason)
    }
  }

  private func ask(
    _ request: EventSourceRequest, _ lastEventID: String?, within time: Duration
  ) async throws -> ServerAnswer {
    // What can't be sent is said before anything is.
    var bytes = try request.bytes(lastEventID: lastEventID)
    var way = options.connect
    way.timeout = time
    way.wholeTimeout = options.connect.timeout
    let start = loop.now
    let url = request.url
    let route = try await openTransport(Origin(host: url.host, port: url.port, isSecure: url.isSecure), way)
    if route.forwarding != nil { bytes = try request.bytes(lastEventID: lastEventID, on: route) }
    let limit = way.limit(of: .handshake, within: Swift.max(time - (loop.now - start), .zero))
    let answer = try await ServerAnswer.read(from: route.stream, bytes, within: limit, limits: options.headLimits)
    if route.forwarding != nil, answer.response.status.code == 407 { throw await answer.refusalOfProxy() }
    return answer
  }
}

extension EventSourceError: RetryAdvising {
  package var isFinal: Bool {
    switch self {
    case .refused(let status, _, _): !ReconnectOptions.isPassing(status: status)
    case .wrongContentType, .unsupportedBody, .redirect: true
    case .endedEarly, .timeout, .silence, .stalled, .truncated, .malformedResponse, .outOfMemory: false
    }
  }

  package var retryAfter: Duration? {
    if case .refused(_, let headers, _) = self { headers.retryAfter() } else { nil }
  }
}
