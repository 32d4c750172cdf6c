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
        loop.cancelTimer(timer)
        return (head.request, head.hasBody, head.isHTTP11)
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
        (request, hasBody: try !BodyFraming(request.headerFields).isEmpty, isHTTP11: isHTTP11)
      }
    }
  }

  /// A request that no event stream follows, although it is not refused.
  private struct HeadAnswered: Error {}

  /// Begins the stream, or answers what is refused, and closes the transport then.
  private static func answering(
    over transport: some PolledDuplexStream<Bytes, Bytes>, _ options: EventSourceServerOptions,
    _ read: () async throws -> (HTTPRequest, hasBody: Bool, isHTTP11: Bool)
  ) async throws -> EventStreamConnection {
    var isHead = false
    do {
      do {
        let (request, hasBody, isHTTP11) = try await read()
        isHead = request.method == .head
        return try await begin(request, hasBody: hasBody, over: transport, isHTTP11: isHTTP11, options: options)
      } catch let error as HTTPHeadError {
        let rejection = RequestRejection(error)
        options.observer?.didRefuse(status: rejection.status)
        try await transport.write(rejection.response())
        await end(transport, options)
        throw error
      } catch let rejection as RequestRejection {
        options.observer?.didRefuse(status: rejection.status)
        try await transport.write(rejection.response(isHead: isHead))
        await end(transport, options)
        throw rejection
      } catch is HeadAnswered {
        await end(transport, options)
        throw RequestRejection(status: 200, reason: "HEAD was answered")
      }
    } catch {
      transport.abort(error)
      throw error
    }
  }

  private static func end(
    _ transport: some PolledDuplexStream<Bytes, Bytes>, _ options: EventSourceServerOptions
  ) async {
    await transport.closeLingering(
      stallTimeout: options.closeTimeout, orAbort: EventSourceError.stalled(options.closeTimeout))
  }

  private static func readHead(
    from transport: some PolledDuplexStream<Bytes, Bytes>, limits: HeadLimits
  ) async throws -> RequestHead {
    var reader = HeadReader(.request, limits: limits)
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
      throw HeadAnswered()
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
}

extension EventStreamConnection {
  /// Says how long to wait before coming back, without an event.
  func pushRetry(_ retry: Duration) throws {
    var lines = BytesBuilder()
    try ServerSentEvent.append(retry: retry, to: &lines)
    lines.append(0x0A)
    sendLines(lines.take())
  }
}
