#if Hummingbird
  import Hummingbird
  import SluiceEventSource
  import SluiceHTTP
  import SluiceWebSocket

  extension RouterMethods {
    /// A route to WebSockets.
    ///
    /// ```swift
    /// router.webSocket("/chat/{room}") { ws, request, context in
    ///   try await ws.send("this is \(ws.parameters["room"] ?? "")")
    /// }
    /// ```
    /// The middleware before it sees the request, and may refuse it. A request that is none for a WebSocket is answered with the status that says so (400, 405, 426).
    /// The server of the application is to be `.http1WebSockets()`.
    /// - Parameters:
    ///   - options: Of the handshake and the connections.
    ///   - accept: Looks at the request, and gives headers and the subprotocol of the response and a value for the handler; what it throws
    ///     is the answer (`HTTPError`, `RequestRejection`). Default: accepts.
    ///   - handler: As of `WebSocket.serve`: the connection is closed behind it, and with 1001 when the server stops.
    @discardableResult
    public func webSocket(
      _ path: RouterPath = "", options: WebSocketHandshakeOptions = WebSocketHandshakeOptions(),
      accepting accept: @escaping @Sendable (Request, Context) async throws -> WebSocketAcceptance = { _, _ in [:] },
      _ handler: @escaping @Sendable (WebSocket, Request, Context) async throws -> Void
    ) -> Self {
      get(path) { request, context in
        try await Upgrade(request, options, context.parameters.decoded, context.logger)
          .response {
            try await accept(request, context)
          } handler: {
            try await handler($0, request, context)
          }
      }
    }

    /// A route to event streams.
    ///
    /// ```swift
    /// router.events("/feed") { events, request, context in
    ///   try await events.send("hello")
    /// }
    /// ```
    /// - Parameters:
    ///   - options: Of the streams.
    ///   - handler: As of `EventSource.serve`.
    @discardableResult
    public func events(
      _ path: RouterPath = "", options: EventSourceServerOptions = EventSourceServerOptions(),
      _ handler: @escaping @Sendable (EventStreamConnection, Request, Context) async throws -> Void
    ) -> Self {
      get(path) { request, context in
        try await request.events(
          options: options, parameters: context.parameters.decoded, logger: context.logger
        ) { try await handler($0, request, context) }
      }
    }
  }

  extension Parameters {
    /// By name, in the spelling without percents.
    fileprivate var decoded: [String: String] {
      var decoded: [String: String] = [:]
      for (name, value) in self {
        let bytes = PercentEncoding.decode(value.utf8)
        decoded[String(name)] = bytes.map { String(decoding: $0, as: UTF8.self) } ?? String(value)
      }
      return decoded
    }
  }
#endif
