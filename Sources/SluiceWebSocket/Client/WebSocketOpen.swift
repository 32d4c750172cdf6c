import HTTPTypes
import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

extension WebSocket {
  /// Opens a WebSocket over a byte stream that is connected already: a tunnel, memory, a stream of your own.
  /// - Parameter url: What to ask the server for; its host is not connected to, and `wss:` adds no TLS.
  /// - Throws: `URLError`, `SubprotocolError`, `ExtensionOfferError` or `HTTPFieldError` for what can't be asked, before anything
  ///   is sent; `WebSocketConnectError` if the server does not agree, or not in time; what the stream fails with.
  public static func connect(
    _ url: String, over transport: some PolledDuplexStream<Bytes, Bytes>, protocols: [String] = [],
    options: WebSocketRequestOptions = WebSocketRequestOptions()
  ) async throws -> WebSocket {
    let request = try ClientRequest(ConnectionURL(url), protocols: protocols, options)
    return try await observed(by: options.connection.observer) {
      try await withTaskExecutorPreference(transport.loop) {
        try await open(request, over: transport, options)
      }
    }
  }

  /// Tells an observer of what does not become a connection.
  package static func observed(
    by observer: (any WebSocketObserver)?, _ body: () async throws -> WebSocket
  ) async throws -> WebSocket {
    do { return try await body() } catch {
      if case WebSocketConnectError.handshake(.refused(let status, _, _)) = error {
        observer?.didFailHandshake(status: status)
      } else {
        observer?.didFailHandshake(status: nil)
      }
      throw error
    }
  }

  /// On the transport's loop.
  /// - Parameters:
  ///   - left: What is left of a time for more than the handshake, which is `whole`.
  ///   - mayFollowRedirects: Whether a redirect is to be followed, so that its body is of no interest.
  package static func open(
    _ request: ClientRequest, over transport: some PolledDuplexStream<Bytes, Bytes>, within left: Duration? = nil,
    outOf whole: Duration? = nil, mayFollowRedirects: Bool = false, _ options: WebSocketRequestOptions
  ) async throws -> WebSocket {
    let loop = transport.loop
    let limit = Swift.min(options.handshakeTimeout, left ?? options.handshakeTimeout)
    let named = limit == options.handshakeTimeout ? limit : whole ?? limit
    let timer = loop.schedule(after: limit) { transport.abort(WebSocketConnectError.timeout(named)) }
    defer { loop.cancelTimer(timer) }
    do {
      try await transport.write(request.head)
      let answer = try await ServerAnswer.read(from: transport, limits: options.headLimits)
      if answer.response.status.code != 101 {
        throw ClientHandshakeError.refused(
          status: answer.response.status.code, headers: answer.response.headerFields,
          bodyStart: mayFollowRedirects && Redirect.isRedirect(status: answer.response.status.code)
            ? Bytes() : await RefusalBody.start(of: answer.response, behind: answer.rest, from: transport))
      }
      let agreement = try request.handshake.check(answer.response)
      let opening = WebSocketOpening(
        head: .response(url: request.url.description, PackedHead(answer.head)), subprotocol: agreement.subprotocol)
      return try WebSocket(
        over: transport, role: .client, head: answer.rest, opening: opening, extensions: agreement.extensions,
        in: ConnectionContext(.client, options.connection, on: transport.loop))
    } catch {
      transport.abort(error)
      switch error {
      case let error as ClientHandshakeError: throw WebSocketConnectError.handshake(error)
      case let error as HTTPHeadError: throw WebSocketConnectError.malformedResponse(error)
      default: throw error
      }
    }
  }
}

/// What a server answers to a client's handshake.
private struct ServerAnswer {
  let response: HTTPResponse
  let head: Bytes
  /// What was read behind the head: the first frames, or the beginning of a body.
  let rest: Bytes

  /// Reads the head of the final response. Interim ones (RFC 9110 §15.2) are passed over, within the limit of one head.
  static func read(
    from transport: some PolledDuplexStream<Bytes, Bytes>, limits: HeadLimits
  ) async throws -> ServerAnswer {
    var limits = limits
    var reader = HeadReader(limits: limits)
    var next: Bytes?
    while true {
      guard let chunk = if let next { next } else { try await transport.read() } else {
        throw WebSocketConnectError.endedEarly
      }
      next = nil
      guard let (head, rest) = try reader.consume(chunk) else { continue }
      let response = try ResponseHead(head, limits: limits).response
      guard response.status.kind == .informational, response.status.code != 101 else {
        return ServerAnswer(response: response, head: head, rest: rest)
      }
      limits.maxHeadBytes -= head.count
      reader = HeadReader(limits: limits)
      next = rest.isEmpty ? nil : rest
    }
  }
}
