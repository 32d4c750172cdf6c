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
      return try await answering(over: transport, options) {
        let head = try await readHead(from: transport, limits: options.headLimits)
        return try await begin(
          head.request, hasBody: head.hasBody, over: transport, isHTTP11: head.isHTTP11, options: options)
      }
    }
  }

  /// Answers a request whose head another server has read, and takes its connection over.
  /// - Parameters:
  ///   - transport: The byte stream that the request came on. Nothing was answered on it yet, and nobody else reads it.
  ///   - head: What was read behind the empty line that ends the request's head. It is dropped, as is all that comes later: the stream is the last that
  ///     this connection answers.
  ///   - isHTTP11: Whether the client speaks HTTP/1.1, and so understands a chunked body.
  /// - Throws: As `accept(over:options:)`.
  public static func accept(
    _ request: HTTPRequest, over transport: some PolledDuplexStream<Bytes, Bytes>, head: Bytes = Bytes(),
    isHTTP11: Bool = true, options: EventSourceServerOptions = EventSourceServerOptions()
  ) async throws -> EventStreamConnection {
    try await withTaskExecutorPreference(transport.loop) {
      try await answering(over: transport, options) {
        let hasBody = try !BodyFraming(request.headerFields).isEmpty
        return try await begin(
          request, hasBody: hasBody, over: transport, isHTTP11: isHTTP11, options: options)
      }
    }
  }

  /// Answers what is refused, and closes the transport then.
  private static func answering(
    over transport: some PolledDuplexStream<Bytes, Bytes>, _ options: EventSourceServerOptions,
    _ body: () async throws -> EventStreamConnection
  ) async throws -> EventStreamConnection {
    do { return try await body() } catch let rejection as RequestRejection {
      try await reject(rejection, over: transport, options)
      throw rejection
    } catch let error as HTTPHeadError {
      try await reject(RequestRejection(error), over: transport, options)
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
    let fields = try agree(to: request, hasBody: hasBody, options)
    let isHead = request.method == .head
    try await transport.write(try responseHead(fields, isChunked: isHTTP11 && !isHead))
    if isHead {
      try await transport.close()
      throw RequestRejection(status: 200, reason: "HEAD was answered")
    }
    // What is written to the connection is flushed with it from here on.
    transport.flush()
    return try open(request, fields, over: transport, isChunked: isHTTP11, options)
  }

  /// The fields of the response, but for those that frame it.
  /// - Throws: `RequestRejection`; `HTTPFieldError` for a field of the options that can't be sent.
  package static func agree(
    to request: HTTPRequest, hasBody: Bool, _ options: EventSourceServerOptions
  ) throws -> HTTPFields {
    if hasBody { throw RequestRejection(status: 400, reason: "a request for an event stream has no body") }
    return try responseFields(request, try check(request, options), options)
  }

  /// Begins the stream behind a response's head.
  /// - Parameters:
  ///   - fields: As `agree` gave them.
  ///   - isChunked: Whether the body is to be written in chunks, rather than as it is.
  package static func open(
    _ request: HTTPRequest, _ fields: HTTPFields, over transport: some PolledDuplexStream<Bytes, Bytes>,
    isChunked: Bool, _ options: EventSourceServerOptions
  ) throws -> EventStreamConnection {
    let connection = try EventStreamConnection(
      over: transport, request: request, isChunked: isChunked, isCompressed: fields[.contentEncoding] != nil,
      options: options)
    if let retry = options.retry { try connection.pushRetry(retry) }
    return connection
  }

  /// - Returns: what the application adds to the response.
  private static func check(
    _ request: HTTPRequest, _ options: EventSourceServerOptions
  ) throws -> Headers {
    guard request.method == .get || request.method == .head else {
      throw RequestRejection(
        status: 405, reason: "an event stream is asked for with GET, not \(request.method.rawValue)",
        fields: [.allow: "GET, HEAD"])
    }
    guard accepts(request, exactly: false) else {
      throw RequestRejection(status: 406, reason: "this is text/event-stream, which the request does not accept")
    }
    do { return try options.onRequest(request) } catch {
      throw RequestRejection(thrown: error)
    }
  }

  private static func responseHead(_ fields: HTTPFields, isChunked: Bool) throws -> Bytes {
    var writer = HeadWriter("HTTP/1.1 200 OK")
    try writer.append(fields)
    try writer.append("Connection", "close")
    if isChunked { try writer.append("Transfer-Encoding", "chunked") }
    return writer.finish()
  }

  /// - Parameter added: What the application adds for this request.
  private static func responseFields(
    _ request: HTTPRequest, _ added: Headers, _ options: EventSourceServerOptions
  ) throws -> HTTPFields {
    // Nobody keeps a stream, or changes what is in it on the way.
    var fields: HTTPFields = [.contentType: "text/event-stream", .cacheControl: "no-cache, no-transform"]
    if options.compresses {
      if acceptsGzip(request) { fields[.contentEncoding] = "gzip" }
      fields.append(HTTPField(name: .vary, value: "Accept-Encoding"))
    }
    if let origin = options.allowedOrigin {
      try fields.append(["Access-Control-Allow-Origin": origin], reserved: [])
      if origin != "*" {
        fields[.accessControlAllowCredentials] = "true"
        fields.append(HTTPField(name: .vary, value: "Origin"))
      }
    }
    try fields.append(options.headers, reserved: reservedFields)
    try fields.append(added, reserved: reservedFields)
    return fields
  }

  /// Fields, in lower case, that the stream writes itself.
  package static let reservedFields: Set<String> = [
    "content-type", "connection", "transfer-encoding", "content-length", "content-encoding",
  ]

  private static func reject(
    _ rejection: RequestRejection, over transport: some PolledDuplexStream<Bytes, Bytes>,
    _ options: EventSourceServerOptions
  ) async throws {
    if rejection.status == 200 { return }
    options.observer?.didRefuse(status: rejection.status)
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
