import HTTPTypes
import SluiceHTTP
import SluiceStreams

extension EventSource {
  /// Reads a client's request from a byte stream that was just accepted, and begins the event stream.
  /// - Parameters:
  ///   - requestTimeout: Time for the request's head. Default: 10 seconds.
  ///   - headLimits: Its limits. Default: 16 KiB, 100 fields.
  /// - Throws: `RequestRejection` if the request was answered with something else, `HTTPHeadError` if it is none,
  ///   `EventSourceError`, or what the stream failed with. The stream is closed then.
  public static func accept(
    over transport: some PolledDuplexStream<Bytes, Bytes>,
    options: EventSourceServerOptions = EventSourceServerOptions(), requestTimeout: Duration = .seconds(10),
    headLimits: HeadLimits = HeadLimits()
  ) async throws -> EventStreamConnection {
    try await withTaskExecutorPreference(transport.loop) {
      let loop = transport.loop
      let timer = loop.schedule(after: requestTimeout) {
        transport.abort(EventSourceError.timeout(requestTimeout))
      }
      defer { loop.cancelTimer(timer) }
      return try await answering(over: transport, RequestContext(), options) {
        let head = try await readHead(from: transport, limits: headLimits)
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
    try await accept(request, over: transport, isHTTP11: isHTTP11, RequestContext(), options: options)
  }

  package static func accept(
    _ request: HTTPRequest, over transport: some PolledDuplexStream<Bytes, Bytes>, isHTTP11: Bool,
    _ context: RequestContext, options: EventSourceServerOptions
  ) async throws -> EventStreamConnection {
    try await withTaskExecutorPreference(transport.loop) {
      try await answering(over: transport, context, options) {
        (request, hasBody: try !BodyFraming(request.headerFields).isEmpty, isHTTP11: isHTTP11)
      }
    }
  }

  /// A request that no event stream follows, although it is not refused.
  private struct HeadAnswered: Error {}

  /// Begins the stream, or answers what is refused, and closes the transport then.
  private static func answering(
    over transport: some PolledDuplexStream<Bytes, Bytes>, _ context: RequestContext,
    _ options: EventSourceServerOptions, _ read: () async throws -> (HTTPRequest, hasBody: Bool, isHTTP11: Bool)
  ) async throws -> EventStreamConnection {
    var isHead = false
    do {
      do {
        let (request, hasBody, isHTTP11) = try await read()
        isHead = request.method == .head
        return try await begin(
          request, hasBody: hasBody, over: transport, isHTTP11: isHTTP11, context, options: options)
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
    _ context: RequestContext, options: EventSourceServerOptions
  ) async throws -> EventStreamConnection {
    let agreement =
      if options.onRequest == nil { try await agree(to: request, hasBody: hasBody, options) } else {
        try await transport.whilePeerIsThere { try await agree(to: request, hasBody: hasBody, options) }
      }
    switch agreement {
    case .head(let status, let fields):
      try await transport.write(try responseHead(status: status, fields, isChunked: false))
      throw HeadAnswered()
    case .stream(let fields):
      return try await begin(request, fields, over: transport, isHTTP11: isHTTP11, context, options)
    }
  }

  private static func begin(
    _ request: HTTPRequest, _ fields: HTTPFields, over transport: some PolledDuplexStream<Bytes, Bytes>,
    isHTTP11: Bool, _ context: RequestContext, _ options: EventSourceServerOptions
  ) async throws -> EventStreamConnection {
    try await transport.write(try responseHead(status: 200, fields, isChunked: isHTTP11))
    return try open(request, fields, over: transport, isChunked: isHTTP11, context, options)
  }

  /// Answers a request of any method with a stream, when its body has been read.
  /// - Parameter added: Fields of the response, beside the options'.
  /// - Returns: nil if the request was HEAD, whose answer is a head alone.
  /// - Throws: What the transport failed with; `HTTPFieldError` for a field that can't be sent, before anything is.
  package static func answer(
    _ request: HTTPRequest, adding added: HTTPFields, over transport: some PolledDuplexStream<Bytes, Bytes>,
    isHTTP11: Bool, _ context: RequestContext, options: EventSourceServerOptions
  ) async throws -> EventStreamConnection? {
    var fields = try streamFields(request, [:], options)
    for field in added {
      guard !reservedFields.contains(field.name.canonicalName) else {
        throw HTTPFieldError.reservedName(field.name.rawName)
      }
      fields.append(field)
    }
    guard request.method != .head else {
      try await transport.write(try responseHead(status: 200, fields, isChunked: false))
      await end(transport, options)
      return nil
    }
    return try await begin(request, fields, over: transport, isHTTP11: isHTTP11, context, options)
  }

  /// What a request that is not refused is answered with.
  package enum Agreement {
    /// The fields of a response that is a stream, but for those that frame it.
    case stream(HTTPFields)
    /// A head is all of the response.
    case head(status: Int, HTTPFields)
  }

  /// - Throws: `RequestRejection`; `HTTPFieldError` for a field of the options that can't be sent.
  package static func agree(
    to request: HTTPRequest, hasBody: Bool, _ options: EventSourceServerOptions
  ) async throws -> Agreement {
    do {
      switch request.method {
      case .get where !hasBody: return .stream(try streamFields(request, try await check(request, options), options))
      case .head where !hasBody:
        return .head(status: 200, try streamFields(request, try await check(request, options), options))
      case .options: return .head(status: 204, try optionsFields(request, options))
      case .get, .head:
        throw RequestRejection(status: 400, reason: "a request for an event stream must not have a body")
      default:
        throw RequestRejection(
          status: 405, reason: "an event stream must be requested with GET, not \(request.method.rawValue)",
          fields: [.allow: methods])
      }
    } catch var rejection as RequestRejection {
      // A page is to read why it was refused.
      try rejection.fields.append(options.origins.permission(for: request), reserved: [])
      throw rejection
    }
  }

  private static let methods = "GET, HEAD, OPTIONS"

  /// Begins the stream behind a response's head.
  /// - Parameters:
  ///   - fields: As `agree` gave them.
  ///   - isChunked: Whether the body is to be written in chunks, rather than as it is.
  package static func open(
    _ request: HTTPRequest, _ fields: HTTPFields, over transport: some PolledDuplexStream<Bytes, Bytes>,
    isChunked: Bool, _ context: RequestContext, _ options: EventSourceServerOptions
  ) throws -> EventStreamConnection {
    let connection = try EventStreamConnection(
      over: transport, request: request, context, isChunked: isChunked, isCompressed: fields[.contentEncoding] != nil,
      options: options)
    if let retry = options.retry { try connection.pushRetry(retry) }
    return connection
  }

  /// - Returns: what the application adds to the response.
  private static func check(
    _ request: HTTPRequest, _ options: EventSourceServerOptions
  ) async throws -> Headers {
    guard accepts(request, exactly: false) else {
      throw RequestRejection(status: 406, reason: "the request does not accept text/event-stream")
    }
    do { return try await options.onRequest?(request) ?? [:] } catch {
      throw RequestRejection(thrown: error)
    }
  }

  private static func responseHead(status: Int, _ fields: HTTPFields, isChunked: Bool) throws -> Bytes {
    var writer = HeadWriter("HTTP/1.1 \(status) \(reasonPhrase(forStatus: status))")
    try writer.append(fields)
    try writer.append("Connection", "close")
    if isChunked { try writer.append("Transfer-Encoding", "chunked") }
    return writer.finish()
  }

  /// - Parameter added: What the application adds for this request.
  private static func streamFields(
    _ request: HTTPRequest, _ added: Headers, _ options: EventSourceServerOptions
  ) throws -> HTTPFields {
    // Nobody keeps a stream, or changes what is in it on the way.
    var fields: HTTPFields = [.contentType: "text/event-stream", .cacheControl: "no-cache, no-transform"]
    if options.compresses {
      if acceptsGzip(request) { fields[.contentEncoding] = "gzip" }
      fields.append(HTTPField(name: .vary, value: "Accept-Encoding"))
    }
    try fields.append(options.origins.permission(for: request), reserved: [])
    try fields.append(options.headers, reserved: reservedFields)
    try fields.append(added, reserved: reservedFields)
    try fields.appendUnlessSaid(["X-Accel-Buffering": "no", "Date": HTTPDate.now])
    return fields
  }

  /// What may be asked for here, and, to a page's preflight, that it may (the Fetch standard, §3.2.2).
  private static func optionsFields(_ request: HTTPRequest, _ options: EventSourceServerOptions) throws -> HTTPFields {
    var fields: HTTPFields = [.allow: methods, .date: HTTPDate.now]
    let permission = options.origins.permission(for: request)
    try fields.append(permission, reserved: [])
    guard fields[.accessControlAllowOrigin] != nil, let method = request.headerFields[.accessControlRequestMethod]
    else {
      return fields
    }
    // What the page sends is for the request itself to be refused for.
    if method.utf8.isToken { fields[.accessControlAllowMethods] = method }
    let asked = request.headerFields[values: .accessControlRequestHeaders]
    if let names = HTTPSyntax.tokens(in: asked), !names.isEmpty {
      fields[.accessControlAllowHeaders] = names.joined(separator: ", ")
    }
    fields[.accessControlMaxAge] = preflightAge
    return fields
  }

  /// Seconds for which a browser need not ask again.
  private static let preflightAge = "600"

  /// Fields, in lower case, that the stream writes itself.
  package static let reservedFields: Set<String> = [
    "content-type", "connection", "transfer-encoding", "content-length", "content-encoding",
  ]
}

extension HTTPFields {
  /// Adds those that are not there yet.
  fileprivate mutating func appendUnlessSaid(_ headers: Headers) throws(HTTPFieldError) {
    for (name, value) in headers where HTTPField.Name(name).map({ self[$0] }) == .some(nil) {
      try append([name: value], reserved: [])
    }
  }
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
