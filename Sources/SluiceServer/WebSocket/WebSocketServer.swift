import Logging
import SluiceHTTP
import SluiceStreams
import SluiceWebSocket

/// A listening WebSocket server.
///
/// ```swift
/// let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
/// print("listening on", server.url)
/// try await server.run { ws in try await ws.pipe(ws) }
/// ```
public struct WebSocketServer: Sendable {
  private let sockets: ServerSockets
  private let accepted: [AcceptedWebSockets]
  private let closeTimeout: Duration

  /// Where it listens, with the port that the system chose if 0 was asked for.
  public var url: String { sockets.url }
  public var port: Int { sockets.port }

  /// Listens on the host and port of a URL.
  /// - Parameter url: `ws://HOST[:PORT][/PATH]`, or `wss://…` with `options.tls`; port 0 lets the system choose. With a path other than "/", only requests for
  ///   that path are served; others are answered with 404.
  /// - Throws: `URLError`, `IOError`; `TLSError.invalidOption` for `wss:` without certificates, or `ws:` with them.
  public static func listen(
    _ url: String, options: WebSocketServerOptions = WebSocketServerOptions()
  ) async throws -> WebSocketServer {
    let parsed = try ConnectionURL(url, schemes: ["ws", "wss"], allowsPortZero: true)
    let path = parsed.target == "/" ? nil : RequestPath.normalized(parsed.target.wire) ?? parsed.target
    let counter = options.listen.counter()
    let sockets = try await ServerSockets.listen(
      parsed, options.listen)
    let accepted = sockets.listeners.map {
      AcceptedWebSockets(listener: $0, path: path, options: options, counter: counter)
    }
    return WebSocketServer(sockets: sockets, accepted: accepted, closeTimeout: options.connection.closeTimeout)
  }

  /// The connections, to be taken one by one instead of by `run`; of the first loop, if there are several.
  public var connections: any ReadableStream<WebSocket> { accepted[0] }

  /// Serves each connection with a task of its own, on the connection's loop, until the calling task is cancelled.
  ///
  /// A handler that returns closes its connection with 1000, one that throws with 1011; the error goes to the log and not to
  /// the peer. On cancellation no more connections are accepted and the open ones are closed with 1001; handlers whose
  /// connections have not ended within the close timeout are cancelled. Returns when all handlers have. A handler's task is for the server
  /// alone to cancel: a wait for a message hears of nobody else, unless it is a child task that waits.
  ///
  /// A handler whose connection is over finds that where it reads or sends. The task of one that does neither is cancelled: at once if it has
  /// read nothing, two seconds later if it has read all that came, after the close timeout if it has not, and after `stallTimeout` if that is more than is
  /// read ahead; `WebSocket.waitUntilClosed` is there for those who wait for this alone. A connection counts for `maxConnections` until its handler has returned.
  /// - Throws: `CancellationError`, or an `IOError` of the listening socket.
  public func run(
    logger: Logger = Logger(label: "sluice.websocket.server"),
    _ handler: @escaping @Sendable (WebSocket) async throws -> Void
  ) async throws {
    try await run(logger: logger) { service, socket in
      if socket.context.serving?.service !== service {
        socket.context.serving = ConnectionContext.Serving(service, logger, handler) { service.didEnd($0) }
      }
      return socket.startServing()
    }
  }

  /// - Parameter begin: See `ConnectionService`.
  func run(
    logger: Logger,
    begin: @escaping @Sendable (ConnectionService<AcceptedWebSockets>, WebSocket) -> Task<Void, any Error>?
  ) async throws {
    sockets.onExhaustion { logger.warning("accepting paused: out of file descriptors", metadata: ["error": "\($0)"]) }
    try await sockets.run { index in
      let accepted = accepted[index]
      let service = ConnectionService(accepted, closeTimeout: closeTimeout, begin: begin)
      defer {
        accepted.loop.perform { if accepted.context.serving?.service === service { accepted.context.serving = nil } }
      }
      try await service.run()
    }
  }

  /// Has a closure called, on a loop, when there was no descriptor or memory for a connection, which waits then: see
  /// `SocketListener.onExhaustion`. `run` has its log say so instead.
  public func onExhaustion(_ observer: @escaping @Sendable (any Error) -> Void) { sockets.onExhaustion(observer) }

  /// Stops accepting. Connections that were accepted go on.
  public func stop() {
    for accepted in accepted { accepted.cancel(nil) }
  }
}

extension WebSocket {
  /// Listens, and serves each connection with a task of its own: see `WebSocketServer.listen` and `run`.
  ///
  /// ```swift
  /// try await WebSocket.serve("ws://127.0.0.1:8000") { ws in
  ///   try await ws.pipe(ws)
  /// }
  /// ```
  public static func serve(
    _ url: String, options: WebSocketServerOptions = WebSocketServerOptions(),
    logger: Logger = Logger(label: "sluice.websocket.server"),
    _ handler: @escaping @Sendable (WebSocket) async throws -> Void
  ) async throws {
    try await WebSocketServer.listen(url, options: options).run(logger: logger, handler)
  }
}
