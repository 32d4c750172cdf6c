import Logging
import SluiceWebSocket

extension WebSocket {
  /// Listens, and gives each connection to a closure that sets its handlers: see `WebSocketCallbacks`. No task runs for a connection, and none is
  /// held for an idle one.
  ///
  /// ```swift
  /// try await WebSocket.serveCallbacks("ws://127.0.0.1:8000") { ws in
  ///   ws.onMessage { ws.trySend($0) }
  /// }
  /// ```
  /// - Throws: As `WebSocketServer.listen` and `run`.
  public static func serveCallbacks(
    _ url: String, options: WebSocketServerOptions = WebSocketServerOptions(),
    logger: Logger = Logger(label: "sluice.websocket.server"), _ setUp: @escaping @Sendable (WebSocketCallbacks) -> Void
  ) async throws {
    try await WebSocketServer.listen(url, options: options).runCallbacks(logger: logger, setUp)
  }
}

extension WebSocketServer {
  /// Gives each connection to a closure that sets its handlers, as `WebSocket.serveCallbacks` does, until the calling task is cancelled; then the
  /// connections are closed with 1001.
  /// - Throws: As `run`.
  public func runCallbacks(
    logger: Logger = Logger(label: "sluice.websocket.server"), _ setUp: @escaping @Sendable (WebSocketCallbacks) -> Void
  ) async throws {
    try await run(logger: logger) { service, ws in
      let callbacks = WebSocketCallbacks(ws)
      setUp(callbacks)
      callbacks.whenClosed { ws.close(as: .normal, "") { _ in service.didEnd(ws) } }
      return nil
    }
  }
}
