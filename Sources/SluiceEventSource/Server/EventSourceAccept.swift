import HTTPTypes
import SluiceHTTP
import SluiceStreams

extension EventSource {
  /// Reads a client's request from a byte stream that was just accepted, and begins the event stream.
  /// - Throws: `RequestRejection` if the request was answered with something else, `HTTPHeadError` if it is none,
  ///   `EventSourceError`, or what the stream failed with. The stream is closed then.
  public static func accept(
    over transport: some PolledDuplexStream<Bytes, Bytes>,
    options: EventSourceServerOptions = EventSourceServerOptions()
  ) async throws -> EventStreamConnection {
    try await withTaskExecutorPreference(transport.loop) {
      let loop = transport.loop
      let timer = loop.schedule(after: options.requestTimeout) {
        transport.abort(EventSourceError.timeout(options.requestTimeout))
      }
      defer { loop.cancelTimer(timer) }
      return try await answering(over: transport) {
        let head = try await readHead(from: transport, limits: options.headLimits)
        return try await begin(
          head.request, hasBody: head.hasBody, over: transport, isHTTP11: head.isHTTP11, options: options)
      }
    }
  }

  /// Answers a request whose head another server has read, and takes its connection over.
  /// - Parameters:
  ///   - transport: The byte stream that the request came on. Nothing was answered on it yet, and nobody else reads it.
  ///   - isHTTP11: Whether the client speaks HTTP/1.1, and so understands a chunked body.
  /// - Throws: As `accept(over:options:)`.
  public static func accept(
    _ request: HTTPRequest, over transport: some PolledDuplexStream<Bytes, Bytes>, isHTTP11: Bool = true,
    options: EventSourceServerOptions = EventSourceServerOptions()
  ) async throws -> EventStreamConnection {
    try await withTaskExecutorPreference(transport.loop) {
      try await answering(over: transport) {
        let hasBody = try !BodyFraming(request.headerFields).isEmpty
        return try await begin(
          request, hasBody: hasBody, over: transport, isHTTP11: isHTTP11, options: options)
      }
    }
  }

  /// Answers what is refused, and closes the transport then.
  private static func answering(
    over transport: some PolledDuplexStream<Bytes, Bytes>, _ body: () async throws -> EventStreamConnection
  ) async throws -> EventStreamConnection {
    do { return try await body() } catch let rejection as RequestRejection {
      try await reject(rejection, over: transport)
      throw rejection
    } catch let error as HTTPHeadError {
      try await reject(RequestRejection(error), over: transport)
      throw error
    } catch {
      transport.abort(error)
      throw error
    }
  }

  private static func readHead(
    from transport: some PolledDuplexStream<Bytes, Bytes>, limits: HeadLimits
  ) async throws -> RequestHead {
    var reader = HeadReader(limits: limits)
    while let chunk = try await transport.read() {
      if let (head, _) = try reader.consume(chunk) { return try RequestHead(head, limits: limits) }
    }
    throw EventSourceError.endedEarly
  }

  private static func begin(
    _ request: HTTPRequest, hasBody: Bool, over transport: some PolledDuplexStream<Bytes, Bytes>, isHTTP11: Bool,
    options: EventSourceServerOptions
  ) async throws -> EventStreamConnection {
    if hasBody { throw RequestRejection(status: 400, reason: "a request for an event stream has no body") }
    try check(request, options)
    if request.method == .head {
      let isCompressed = options.compresses && acceptsGzip(request)
      try await transport.write(try responseHead(request, isChunked: false, isCompressed: isCompressed, options))
      try await transport.close()
      throw RequestRejection(status: 200, reason: "HEAD was answered")
    }
    return try await open(request, over: transport, isHTTP11: isHTTP11, options)
  }

  private static func check(
    _ request: HTTPRequest, _ options: EventSourceServerOptions
  ) throws {
    guard request.method == .get || request.method == .head else {
      throw RequestRejection(
        status: 405, reason: "an event stream is asked for with GET, not \(request.method.rawValue)",
        fields: [.allow: "GET, HEAD"])
    }
    guard accepts(request, exactly: false) else {
      throw RequestRejection(status: 406, reason: "this is text/event-stream, which the request does not accept")
    }
    do { try options.onRequest(request) } catch {
      throw RequestRejection(thrown: error)
    }
  }

  private static func open(
    _ request: HTTPRequest, over transport: some PolledDuplexStream<Bytes, Bytes>, isHTTP11: Bool,
    _ options: EventSourceServerOptions
  ) async throws -> EventStreamConnection {
    let isCompressed = options.compresses && acceptsGzip(request)
    try await transport.write(try responseHead(request, isChunked: isHTTP11, isCompressed: isCompressed, options))
    // What is written to the connection is flushed with it from here on.
    transport.flush()
    let connection = try EventStreamConnection(
      over: transport, request: request, isChunked: isHTTP11, isCompressed: isCompressed, options: options)
    if let retry = options.retry { try connection.pushRetry(retry) }
    return connection
  }

  private static func responseHead(
    _ request: HTTPRequest, isChunked: Bool, isCompressed: Bool, _ options: EventSourceServerOptions
  ) throws -> Bytes {
    var writer = HeadWriter("HTTP/1.1 200 OK")
    try writer.append("Content-Type", "text/event-stream")
    // Nobody keeps a stream, or changes what is in it on the way.
    try writer.append("Cache-Control", "no-cache, no-transform")
    try writer.append("Connection", "close")
    if isChunked { try writer.append("Transfer-Encoding", "chunked") }
    if isCompressed { try writer.append("Content-Encoding", "gzip") }
    if options.compresses { try writer.append("Vary", "Accept-Encoding") }
    if let origin = options.allowedOrigin {
      try writer.append("Access-Control-Allow-Origin", origin)
      if origin != "*" {
        try writer.append("Access-Control-Allow-Credentials", "true")
        try writer.append("Vary", "Origin")
      }
    }
    try writer.append(options.headers, reserved: reserved)
    return writer.finish()
  }

  /// Fields that the stream writes itself.
  private static let reserved: Set<String> = [
    "content-type", "connection", "transfer-encoding", "content-length", "content-encoding",
  ]

  private static func reject(
    _ rejection: RequestRejection, over transport: some PolledDuplexStream<Bytes, Bytes>
  ) async throws {
    if rejection.status == 200 { return }
    try await transport.write(rejection.response())
    try await transport.close()
    transport.cancel(nil)
  }
}

extension EventStreamConnection {
  /// Says how long to wait before coming back, without an event.
  func pushRetry(_ retry: Duration) throws {
    guard retry >= .zero else { throw EventFieldError.invalidRetry(retry) }
    let milliseconds = retry.components.seconds * 1000 + retry.components.attoseconds / 1_000_000_000_000_000
    sendField("retry: \(milliseconds)\n\n")
  }
}

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
    case .redirect(let reason): "the server redirects, and that is not followed: \(reason)"
    case .outOfMemory: "there is no memory for a compression context"
    }
  }
}
