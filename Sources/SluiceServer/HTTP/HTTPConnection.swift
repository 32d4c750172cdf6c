import HTTPTypes
import Logging
import SluiceEventSource
import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS
import SluiceWebSocket

/// One connection of an HTTP server: requests in, responses out, one after the other, until it becomes something else or ends.
package final class HTTPConnection: ServedConnection, @unchecked Sendable {  // touched on its loop only
  private let options: HTTPServerOptions
  private let routes: [HTTPRoute]
  private let logger: Logger
  /// What was accepted, beneath TLS.
  private let socket: any PolledDuplexStream<Bytes, Bytes>
  private var transport: any PolledDuplexStream<Bytes, Bytes>
  private var admission: Admission
  /// When it was accepted, on the loop's clock: from there on the time for the first head counts, with all that comes before it.
  private let start: Duration
  private var phase = Phase.opening
  /// What was read and belongs to the next request.
  private var rest = Bytes()
  package var servingTask: Task<Void, any Error>?
  /// No request is answered behind the one that is.
  private var isLast = false

  private enum Phase {
    case opening
    /// Between two requests.
    case idle
    /// A request has begun to come. The answer to HEAD is a head alone.
    case answering(isHead: Bool)
    case webSocket(WebSocket)
    case events(EventStreamConnection)
  }

  package init(
    _ socket: some PolledDuplexStream<Bytes, Bytes>, routes: [HTTPRoute], options: HTTPServerOptions,
    counter: ConnectionCounter, logger: Logger
  ) {
    self.socket = socket
    self.routes = routes
    self.options = options
    self.logger = logger
    transport = socket
    start = socket.loop.now
    admission = Admission(counter: counter, peer: (socket as? any TransportDescribing)?.peerAddress?.ipAddress)
  }

  /// Until the connection is over.
  package func serve() async {
    options.observer?.didOpen()
    defer { options.observer?.didEnd() }
    do {
      try await open()
      var isFirst = true
      while let head = try await readHead(isFirst: isFirst), try await answer(head) { isFirst = false }
      switch phase {
      // These have ended the transport in their own way.
      case .webSocket, .events: break
      case .opening, .idle, .answering: await end()
      }
    } catch let rejection as RequestRejection {
      await refuse(rejection)
    } catch let error as HTTPHeadError {
      await refuse(RequestRejection(error))
    } catch {
      logger.debug("connection ended", metadata: ["error": "\(error)"])
      transport.abort(error)
    }
  }

  // MARK: the way in

  private func open() async throws {
    let (socket, limit) = (socket, options.requestTimeout)
    if let peer = admission.peer, options.proxyProtocolFrom.contains(where: { $0.contains(peer) }) {
      // Only sockets have addresses that balancers are known by.
      guard let socket = socket as? SocketStream else { throw StreamError.aborted }
      let source = try await ProxyProtocol.read(from: socket, timeout: start + limit - socket.loop.now)
      admission = Admission(counter: admission.counter, peer: source ?? peer)
    }
    guard let tls = options.tls else { return try admission.enter() }
    // A refusal is not worth a TLS handshake.
    do { try admission.enter() } catch { throw StreamError.aborted }
    let left = start + limit - socket.loop.now
    transport = try await socket.within(left, orAbort: HTTPServerError.requestTimeout(limit)) {
      try await tls.accept(over: socket)
    }
  }

  /// - Returns: nil when there is no further request.
  private func readHead(isFirst: Bool) async throws -> RequestHead? {
    if isLast { return nil }
    let loop = transport.loop
    let deadline = isFirst ? start + options.requestTimeout : loop.now + options.keepAliveTimeout
    var passed = 0
    // RFC 9112 §2.2: the empty line that some clients put behind a body begins no request.
    while rest.elementsEqual("\r".utf8) || passEmptyLines(&passed) {
      phase = .idle
      // A client that has said nothing is told nothing.
      guard case .element(let chunk) = try await transport.read(before: deadline) else { return nil }
      rest = rest.followed(by: chunk)
    }
    phase = .answering(isHead: false)
    return try await gatherHead(before: (isFirst ? start : loop.now) + options.requestTimeout)
  }

  /// - Parameter passed: Their bytes, which have the limit of a head: what is beyond it is for that to refuse.
  /// - Returns: whether there was nothing else.
  private func passEmptyLines(_ passed: inout Int) -> Bool {
    while rest.begins(with: "\r\n"), passed < options.headLimits.maxHeadBytes {
      rest = rest.dropFirst(2)
      passed += 2
    }
    return rest.isEmpty || rest.elementsEqual("\r".utf8)
  }

  private func gatherHead(before deadline: Duration) async throws -> RequestHead? {
    var reader = HeadReader(.request, limits: options.headLimits)
    while true {
      if let (bytes, rest) = try reader.consume(rest) {
        self.rest = rest
        // Also of a head that is refused, whose answer has no body either (RFC 9110 §9.3.2).
        phase = .answering(isHead: bytes.begins(with: "HEAD "))
        var head = try RequestHead(bytes, limits: options.headLimits)
        if options.tls != nil { head.request.scheme = "https" }
        try admission.check(head.request)
        return head
      }
      switch try await transport.read(before: deadline) {
      case .element(let chunk): rest = chunk
      case .end: return nil
      case .late:
        Reached.mark("http.headLate")
        throw RequestRejection(status: 408, reason: "no complete request head within \(options.requestTimeout)")
      }
    }
  }

  // MARK: answers

  /// - Returns: whether another request may follow.
  private func answer(_ head: RequestHead) async throws -> Bool {
    let (route, match) = try HTTPRoute.find(head.request, in: routes)
    switch route.action {
    case .webSocket(let options, let handler):
      try await becomeWebSocket(head, options, handler, match)
      return false
    case .events(let options, let handler):
      try await becomeEvents(head, options, handler, match)
      return false
    case .respond(let methods, let respond):
      guard HTTPRoute.allows(head.request.method, methods) else {
        let allowed = methods.contains(.get) ? methods + [.head] : methods
        throw RequestRejection(
          status: 405, reason: "\(head.request.method.rawValue) is not allowed here",
          fields: [.allow: allowed.map(\.rawValue).joined(separator: ", ")])
      }
      return try await respondOnce(to: head, match, respond)
    }
  }

  private func respondOnce(
    to head: RequestHead, _ match: RoutePattern.Match, _ respond: HTTPRoute.Responder
  ) async throws -> Bool {
    let body = try RequestBody(of: head, rest: rest, from: transport, options: options)
    rest = Bytes()
    let request = serverRequest(head.request, body, match)
    let response = try await response(to: request, respond)
    let mayGoOn = head.isHTTP11 && body.isComplete && !head.wantsClose
    rest = body.rest
    body.cancel(nil)
    if let answer = response.events {
      try await becomeEvents(head, match, response.fields, answer)
      return false
    }
    let writer = ResponseWriter(
      transport, isHead: head.request.method == .head, isHTTP11: head.isHTTP11,
      keepsAlive: mayGoOn && !isLast, stallTimeout: options.stallTimeout)
    let byteCount: Int
    do { byteCount = try await writer.write(response) } catch let failure as ResponseBodyFailure {
      logger.error("response truncated", metadata: about(request.head, failure.reason))
      await cut(behind: failure)
      return false
    } catch {
      // To cut a client that takes nothing is this side's doing; that it leaves is its own.
      let isCut = error is HTTPServerError
      logger.log(
        level: isCut ? .warning : .debug, isCut ? "response truncated" : "client disconnected",
        metadata: about(request.head, error))
      throw error
    }
    options.observer?.didAnswer(status: response.status, byteCount: byteCount)
    logger.debug(
      "request answered",
      metadata: [
        "method": "\(request.head.method.rawValue)", "path": "\(request.path)", "status": "\(response.status)",
      ])
    return mayGoOn && !isLast
  }

  private func serverRequest(
    _ head: HTTPRequest, _ body: RequestBody, _ match: RoutePattern.Match
  ) -> ServerRequest {
    ServerRequest(
      head: head, body: body, remoteAddress: admission.slot?.address, parameters: match.parameters, below: match.below,
      transport: transport)
  }

  /// What becomes something else knows of its request.
  private func context(_ match: RoutePattern.Match) -> RequestContext {
    RequestContext(peer: admission.slot.map { .known($0.address) } ?? .ofTransport, parameters: match.parameters)
  }

  /// What a line of the log says of the request that it is about: never its query or a field, which may be secrets.
  private func about(_ request: HTTPRequest, _ error: any Error) -> Logger.Metadata {
    [
      "error": "\(error)", "method": "\(request.method.rawValue)", "path": "\(request.pathAndQuery.path)",
      "peer": "\(peerName)",
    ]
  }

  private var peerName: String { admission.slot?.address?.description ?? "unknown" }

  private func response(to request: ServerRequest, _ respond: HTTPRoute.Responder) async throws -> ServerResponse {
    do {
      let response = try await respond(request)
      do { try ResponseWriter.check(response) } catch {
        // Nobody will read it.
        response.body.cancel(error)
        throw error
      }
      return response
    } catch let rejection as RequestRejection where rejection.isAnswer {
      return ServerResponse(rejection)
    } catch {
      // A client that ends in the middle of its body is told so, in chunks or not: to cut it would take with it what was answered before.
      if case StreamError.truncated? = request.body.failure {
        throw RequestRejection(status: 400, reason: "the connection ended within the request body")
      }
      // A client that fails there is no fault of the handler's.
      if let failure = request.body.failure { throw failure }
      logger.error("handler failed", metadata: about(request.head, error))
      return ServerResponse(RequestRejection(thrown: error))
    }
  }

  private func becomeWebSocket(
    _ head: RequestHead, _ options: WebSocketHandshakeOptions, _ handler: HTTPRoute.Handler<WebSocket>,
    _ match: RoutePattern.Match
  ) async throws {
    let ws: WebSocket
    do {
      ws = try await WebSocket.accept(
        head.request, over: transport, head: rest, isHTTP11: head.isHTTP11,
        context(match), options: options)
    } catch { return logger.debug("WebSocket handshake refused", metadata: ["error": "\(error)"]) }
    rest = Bytes()
    phase = .webSocket(ws)
    if isLast { ws.endForShutdown() }
    await ws.serve(logger: logger, handler)
  }

  private func becomeEvents(
    _ head: RequestHead, _ options: EventSourceServerOptions,
    _ handler: HTTPRoute.Handler<EventStreamConnection>, _ match: RoutePattern.Match
  ) async throws {
    let events: EventStreamConnection
    do {
      events = try await EventSource.accept(
        head.request, over: transport, isHTTP11: head.isHTTP11, context(match), options: options)
    } catch { return logger.debug("event stream refused", metadata: ["error": "\(error)"]) }
    await serve(events, handler)
  }

  /// The answer of a route's handler, which has read what it wanted of the request.
  private func becomeEvents(
    _ head: RequestHead, _ match: RoutePattern.Match, _ fields: HTTPFields, _ answer: ServerResponse.EventAnswer
  ) async throws {
    do {
      let events = try await EventSource.answer(
        head.request, adding: fields, over: transport, isHTTP11: head.isHTTP11, context(match),
        options: answer.options)
      if let events { await serve(events, answer.handler) }
    } catch let error as HTTPFieldError {
      logger.error("handler failed", metadata: about(head.request, error))
      throw RequestRejection(thrown: error)
    }
  }

  private func serve(
    _ events: EventStreamConnection, _ handler: @Sendable (EventStreamConnection) async throws -> Void
  ) async {
    rest = Bytes()
    phase = .events(events)
    events.servingTask = servingTask
    if isLast { events.endForShutdown() }
    await events.serve(logger: logger, peer: peerName, handler)
  }

  // MARK: ending

  private func refuse(_ rejection: RequestRejection) async {
    logger.debug(
      "request refused",
      metadata: [
        "status": "\(rejection.status)", "reason": "\(rejection.reason)",
        "peer": "\(peerName)",
      ])
    Reached.mark("http.refused")
    options.observer?.didRefuse(status: rejection.status)
    let isHead = if case .answering(isHead: true) = phase { true } else { false }
    let writer = ResponseWriter(
      transport, isHead: isHead, isHTTP11: true, keepsAlive: false, stallTimeout: options.stallTimeout)
    do { _ = try await writer.write(ServerResponse(rejection)) } catch { return transport.abort(error) }
    await end()
  }

  /// Ends a connection whose client is to see that the answer is not whole.
  private func cut(behind failure: ResponseBodyFailure) async {
    Reached.mark("http.bodyCut")
    // What was written arrives, and the missing end of a framed body says enough. One that ends with the connection must not end in good order.
    if failure.isFramed { return await end() }
    let stallTimeout = options.stallTimeout
    do {
      try await transport.whilePeerTakes(within: stallTimeout, orAbort: HTTPServerError.stalled(stallTimeout)) {
        try await transport.close(after: failure.reason)
      }
      transport.cancel(nil)
    } catch { transport.abort(error) }
  }

  private func end() async {
    await transport.closeLingering(
      stallTimeout: options.stallTimeout, orAbort: HTTPServerError.stalled(options.stallTimeout))
  }

  package func endForShutdown() {
    isLast = true
    switch phase {
    case .opening: transport.abort(StreamError.aborted)
    case .idle:
      Reached.mark("http.idleAtShutdown")
      transport.cancel(nil)
    case .answering: break
    case .webSocket(let ws): ws.endForShutdown()
    case .events(let events): events.endForShutdown()
    }
  }

  package func servingWasCancelled() {
    if case .events(let events) = phase { events.servingWasCancelled() }
  }
}

extension RequestHead {
  /// Whether the client says that this is its last request (RFC 9112 §9.6).
  fileprivate var wantsClose: Bool {
    let options = HTTPSyntax.tokens(in: request.headerFields[values: .connection])
    return options?.contains { $0.utf8.equalsIgnoringCase("close") } ?? true
  }
}
