#if ServiceLifecycle
  import Logging
  import ServiceLifecycle
  import SluiceEventSource
  import SluiceServer
  import SluiceWebSocket

  /// A server as a service of swift-service-lifecycle: a graceful shutdown ends its connections in good order, WebSockets with 1001.
  ///
  /// ```swift
  /// let server = try await WebSocketServer.listen("ws://127.0.0.1:8000")
  /// let group = ServiceGroup(
  ///   services: [server.service { ws in try await ws.pipe(ws) }],
  ///   gracefulShutdownSignals: [.sigterm], logger: logger)
  /// try await group.run()
  /// ```
  public struct ServerService: Service {
    private let serve: @Sendable () async throws -> Void

    init(_ serve: @escaping @Sendable () async throws -> Void) { self.serve = serve }

    public func run() async throws {
      // To a server, cancellation is the word for an end in good order.
      do { try await cancelWhenGracefulShutdown(serve) } catch is CancellationError where !Task.isCancelled {}
    }
  }

  extension WebSocketServer {
    /// See `WebSocketServer.run`.
    public func service(
      logger: Logger = Logger(label: "sluice.websocket.server"),
      _ handler: @escaping @Sendable (WebSocket) async throws -> Void
    ) -> ServerService {
      ServerService { try await run(logger: logger, handler) }
    }
  }

  extension HTTPServer {
    /// See `HTTPServer.run`.
    public func service(
      routes: [HTTPRoute], logger: Logger = Logger(label: "sluice.http.server")
    ) -> ServerService {
      ServerService { try await run(routes: routes, logger: logger) }
    }
  }

  extension EventSourceServer {
    /// See `EventSourceServer.run`.
    public func service(
      logger: Logger = Logger(label: "sluice.eventsource.server"),
      _ handler: @escaping @Sendable (EventStreamConnection) async throws -> Void
    ) -> ServerService {
      ServerService { try await run(logger: logger, handler) }
    }
  }
#endif
