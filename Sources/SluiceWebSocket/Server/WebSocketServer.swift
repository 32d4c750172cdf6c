import Logging
import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS
import SluiceWebSocketProtocol

/// A listening WebSocket server.
///
/// ```swift
/// let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
/// print("listening on", server.url)
/// try await server.run { ws in try await ws.pipe(ws) }
/// ```
public struct WebSocketServer: Sendable {
  /// Where it listens, with the port that the system chose if 0 was asked for.
  public let url: String
  public let port: Int
  private let accepted: [AcceptedWebSockets]
  private let closeTimeout: Duration
  /// Loops that were started for this server, and end with it.
  private let ownLoops: [UVLoop]

  /// Listens on the host and port of a URL.
  /// - Parameter url: `ws://HOST[:PORT][/PATH]`, or `wss://…` with `options.tls`; port 0 lets the system choose. With a path other than "/", only requests for
  ///   that path are served; others are answered with 404.
  /// - Throws: `URLError`, `IOError`; `TLSError.invalidOption` for `wss:` without certificates, or `ws:` with them.
  public static func listen(
    _ url: String, options: WebSocketServerOptions = WebSocketServerOptions()
  ) async throws -> WebSocketServer {
    let parsed = try ConnectionURL(url, schemes: ["ws", "wss"], allowsPortZero: true)
    let path = parsed.target == "/" ? nil : parsed.target
    guard (parsed.scheme == "wss") == (options.tls != nil) else {
      throw TLSError.invalidOption(
        "the server's certificates",
        reason: options.tls == nil ? "wss: needs them (options.tls)" : "ws: does not use them")
    }
    var accepted: [AcceptedWebSockets] = []
    var port = parsed.port
    let ownLoops = options.loops > 1 ? (0..<options.loops).map { UVLoop(name: "sluice-loop-\($0)") } : []
    let counter = ConnectionCounter(
      maxConnections: options.maxConnections, maxPerAddress: options.maxConnectionsPerAddress,
      trustedProxies: options.trustedProxies)
    do {
      for loop in ownLoops.isEmpty ? [.shared] : ownLoops {
        let listener = try await TCP.listen(
          parsed.host, port: port, backlog: options.backlog, sharesPort: options.loops > 1, options: options.tcp,
          on: loop)
        port = listener.port
        accepted.append(AcceptedWebSockets(listener: listener, path: path, options: options, counter: counter))
      }
    } catch {
      for accepted in accepted { accepted.cancel(error) }
      for loop in ownLoops { loop.stop() }
      throw error
    }
    return WebSocketServer(
      url: parsed.description(withPort: port), port: port, accepted: accepted,
      closeTimeout: options.connection.closeTimeout, ownLoops: ownLoops)
  }

  /// The connections, to be taken one by one instead of by `run`; of the first loop, if there are several.
  public var connections: any ReadableStream<WebSocket> { accepted[0] }

  /// Serves each connection with a task of its own, on the connection's loop, until the calling task is cancelled.
  ///
  /// A handler that returns closes its connection with 1000, one that throws with 1011; the error goes to the log and not to
  /// the peer. On cancellation no more connections are accepted and the open ones are closed with 1001; handlers whose
  /// connections have not ended within the close timeout are cancelled. Returns when all handlers have.
  /// - Throws: `CancellationError`, or an `IOError` of the listening socket.
  public func run(
    logger: Logger = Logger(label: "sluice.websocket.server"),
    _ handler: @escaping @Sendable (WebSocket) async throws -> Void
  ) async throws {
    defer { for loop in ownLoops { loop.stop() } }
    let services = accepted.map { accepted in
      let service = ConnectionService(
        accepted: accepted, closeTimeout: closeTimeout, logger: logger, handler: handler)
      return Task(executorPreference: accepted.loop) { try await service.run() }
    }
    let result = await withTaskCancellationHandler {
      // The first that ends ends the others: it was cancelled, or its listener failed.
      let first = await services[0].result
      for service in services { service.cancel() }
      for service in services { _ = await service.result }
      return first
    } onCancel: {
      for service in services { service.cancel() }
    }
    try result.get()
  }

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
