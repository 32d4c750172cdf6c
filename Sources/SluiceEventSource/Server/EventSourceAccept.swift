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
  ///   - isHTTP11: Whether the client speaks HTTP/1.1, and so understands a chunked body.
  /// - Throws: As `accept(over:options:)`.
  public static func accept(
    _ request: HTTPRequest, over transport: some PolledDuplexStream<Bytes, Bytes>, isHTTP11: Bool = true,
    options: EventSourceServerOptions = EventSourceServerOptions()
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
        try await transport.write(RequestRejection(error).response())
        await end(transport, options)
        throw error
      } catch let rejection as RequestRejection {
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
      throw HeadAnswered()
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
