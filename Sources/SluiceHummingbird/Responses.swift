#if Hummingbird
  import HTTPTypes
  import Hummingbird
  import Logging
  import NIOCore
  import SluiceEventSource
  import SluiceHTTP
  import SluiceNIO
  import SluiceStreams
  import SluiceWebSocket

  extension Request {
    /// The response that makes this request's connection a WebSocket, for routes and middleware that decide by themselves.
    ///
    /// ```swift
    /// router.get("/chat/{room}") { request, context in
    ///   let user = try await users.find(request.headers[.authorization])   // throws HTTPError(.unauthorized)
    ///   return try await request.webSocket(accepting: WebSocketAcceptance(value: user)) { ws in
    ///     try await room.serve(ws) { for try await message in ws { try await room.write(message) } }
    ///   }
    /// }
    /// ```
    /// - Parameters:
    ///   - options: Of the handshake and the connection.
    ///   - acceptance: Headers and the subprotocol of the response, and a value for the handler.
    ///   - parameters: What the handler gets as `ws.parameters`.
    ///   - handler: As of `WebSocket.serve`. It begins once the response has been written, if no middleware has replaced that.
    /// - Throws: For a request that is none for a WebSocket, or that `options` refuse: an `HTTPResponseError`, so that Hummingbird answers with its status.
    public func webSocket(
      options: WebSocketHandshakeOptions = WebSocketHandshakeOptions(), accepting acceptance: WebSocketAcceptance = [:],
      parameters: [String: String] = [:], logger: Logger = Logger(label: "sluice.websocket.server"),
      _ handler: @escaping @Sendable (WebSocket) async throws -> Void
    ) async throws -> Response {
      try await Upgrade(self, options, parameters, logger).response {
        acceptance
      } handler: {
        try await handler($0)
      }
    }

    /// The response that is an event stream.
    /// - Parameters:
    ///   - options: Of the stream.
    ///   - parameters: What the handler gets as `events.parameters`.
    ///   - handler: As of `EventSource.serve`.
    /// - Throws: For a request that is none for an event stream, or that `options` refuse: an `HTTPResponseError`, as above.
    public func events(
      options: EventSourceServerOptions = EventSourceServerOptions(), parameters: [String: String] = [:],
      logger: Logger = Logger(label: "sluice.eventsource.server"),
      _ handler: @escaping @Sendable (EventStreamConnection) async throws -> Void
    ) async throws -> Response {
      try await Refusal.wrapping { try await eventResponse(options, parameters, logger, handler) }
    }

    private func eventResponse(
      _ options: EventSourceServerOptions, _ parameters: [String: String], _ logger: Logger,
      _ handler: @escaping @Sendable (EventStreamConnection) async throws -> Void
    ) async throws -> Response {
      let (channel, _) = try await gate()
      let hasBody: Bool
      do { hasBody = try !BodyFraming(headers).isEmpty } catch { throw RequestRejection(error) }
      switch try await EventSource.agree(to: head, hasBody: hasBody, options) {
      case .head(let status, let fields):
        return Response(status: HTTPResponse.Status(code: status), headers: fields)
      case .stream(var fields):
        let (encoded, request) = (fields, head)
        fields[.connection] = "close"
        let stream = try await ConnectionGate.at(channel) { $0.agree(to: .eventStream, on: channel) }
        return Response(
          status: .ok, headers: fields,
          body: ResponseBody { _ in
            let stream = try await stream.get()
            try await withTaskExecutorPreference(stream.loop) {
              let events = try await stream.loop.run {
                // NIO's encoder writes the chunks.
                let events = try EventSource.open(
                  request, encoded, over: stream, isChunked: false, SluiceHTTP.RequestContext(parameters: parameters),
                  options)
                try channel.pipeline.syncOperations.handler(type: ConnectionGate.self).serves(events)
                return events
              }
              let peer = events.remoteAddress?.description ?? "unknown"
              let serving = Task(executorPreference: stream.loop) { () async throws in
                await events.serve(logger: logger, peer: peer, handler)
              }
              try await stream.loop.run {
                if events.isOpen { events.servingTask = serving } else if options.cancelsHandler { serving.cancel() }
              }
              await serving.whileNeeded()
            }
          })
      }
    }

    /// The connection's gate.
    fileprivate func gate() async throws -> (any Channel, ConnectionGate.Facts) {
      guard let channel = GatedChannel.current,
        let facts = try? await ConnectionGate.at(channel, { $0.facts })
      else { throw RequestRejection(status: 501, reason: "the server must be .http1WebSockets()") }
      return (channel, facts)
    }
  }

  /// A request that is to become a WebSocket.
  struct Upgrade {
    private let request: Request
    private let options: WebSocketHandshakeOptions
    private let parameters: [String: String]
    private let logger: Logger

    init(_ request: Request, _ options: WebSocketHandshakeOptions, _ parameters: [String: String], _ logger: Logger) {
      (self.request, self.options, self.parameters, self.logger) = (request, options, parameters, logger)
    }

    /// The 101.
    /// - Parameter accept: Is asked after `options.onRequest`, whose acceptance counts where this one's is silent.
    func response(
      accepting accept: @Sendable () async throws -> WebSocketAcceptance,
      handler: @escaping @Sendable (WebSocket) async throws -> Void
    ) async throws -> Response {
      try await Refusal.wrapping { try await agreed(accepting: accept, handler: handler) }
    }

    private func agreed(
      accepting accept: @Sendable () async throws -> WebSocketAcceptance,
      handler: @escaping @Sendable (WebSocket) async throws -> Void
    ) async throws -> Response {
      let (channel, facts) = try await request.gate()
      let (head, options, parameters, logger) = (request.head, options, parameters, logger)
      let hasBody: Bool
      do { hasBody = try !BodyFraming(head.headerFields).isEmpty } catch { throw RequestRejection(error) }
      let asked = AskedRequest(head, isHTTP11: facts.isHTTP11, hasBody: hasBody, isSecure: facts.isSecure)
      var agreement = try options.agree(to: asked)
      var value: (any Sendable)?
      if let onRequest = options.onRequest {
        (agreement, value) = try await options.settle(asked, agreement, asking: onRequest)
      }
      let acceptance = try await accept()
      agreement = try options.agree(to: asked, as: acceptance, agreement)
      let settled = (agreement, value: acceptance.value ?? value)
      let stream = try await ConnectionGate.at(channel) { $0.agree(to: .webSocket, on: channel) }
      return Response(
        status: .switchingProtocols, headers: agreement.fields,
        body: ResponseBody { _ in
          let stream = try await stream.get()
          try await withTaskExecutorPreference(stream.loop) {
            let serving = try await stream.loop.run {
              let ws = try WebSocket(
                over: stream, request: head, settled.0, value: settled.value, parameters: parameters, options: options,
                isSecure: facts.isSecure)
              let gate = try channel.pipeline.syncOperations.handler(type: ConnectionGate.self)
              gate.serves(ws)
              return ws.startServing(logger: logger, handler)
            }
            await serving.whileNeeded()
          }
        })
    }
  }

  extension Task where Success == Void {
    /// Waits for its end; it is cancelled when this task is.
    fileprivate func whileNeeded() async {
      await withTaskCancellationHandler {
        _ = await result
      } onCancel: {
        cancel()
      }
    }
  }

  /// A rejection as an error that Hummingbird answers with its status.
  struct Refusal: HTTPResponseError {
    private let rejection: RequestRejection

    init(_ rejection: RequestRejection) { self.rejection = RequestRejection(thrown: rejection) }

    var status: HTTPResponse.Status { HTTPResponse.Status(code: rejection.status) }

    func response(from request: Request, context: some Hummingbird.RequestContext) throws -> Response {
      var headers = rejection.fields
      headers[.contentType] = "text/plain; charset=utf-8"
      return Response(
        status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(string: rejection.reason + "\n")))
    }

    /// Makes rejections that `body` throws such errors.
    static func wrapping<R>(_ body: () async throws -> R) async throws -> R {
      do { return try await body() } catch let rejection as RequestRejection { throw Refusal(rejection) }
    }
  }
#endif
