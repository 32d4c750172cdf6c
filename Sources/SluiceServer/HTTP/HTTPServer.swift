import Logging
import SluiceHTTP
import SluiceStreams

/// A small HTTP/1.1 server, for what stands beside a WebSocket or an event stream: its page, its files, a health check.
///
/// ```swift
/// try await HTTPServer.serve(
///   "http://127.0.0.1:8000",
///   routes: [
///     .webSocket("/echo") { ws in try await ws.pipe(ws) },
///     .events("/feed") { events in try await events.send("hello") },
///     .respond("/health") { _ in .text("ok") },
///     .files("/*", in: "public"),
///   ])
/// ```
///
/// HTTP/1.1 with keep-alive and pipelining, bodies of known length and chunked ones both ways, at the pace of the slower side. No
/// ranges, no compression, no HTTP/2: a server that needs these exists, and takes Sluice's connections in.
public struct HTTPServer: Sendable {
  private let sockets: ServerSockets
  private let options: HTTPServerOptions
  private let counter: ConnectionCounter
  private let routes: [HTTPRoute]

  /// Where it listens, with the port that the system chose if 0 was asked for.
  public var url: String { sockets.url }
  public var port: Int { sockets.port }

  /// Listens on the host and port of a URL.
  ///
  /// ```swift
  /// let server = try await HTTPServer.listen("http://127.0.0.1:0", routes: [.respond("/health") { _ in .text("ok") }])
  /// print("listening on", server.url)
  /// try await server.run()
  /// ```
  /// - Parameters:
  ///   - url: `http://HOST[:PORT]`, or `https://…` with `options.tls`; port 0 lets the system choose. A path counts for nothing here.
  ///   - routes: What `run()` serves.
  /// - Throws: `URLError`, `IOError`; `TLSError.invalidOption` for `https:` without certificates, or `http:` with them.
  public static func listen(
    _ url: String, options: HTTPServerOptions = HTTPServerOptions(), routes: [HTTPRoute] = []
  ) async throws -> HTTPServer {
    let parsed = try ConnectionURL(url, schemes: ["http", "https"], allowsPortZero: true)
    let sockets = try await ServerSockets.listen(
      parsed, options.listen)
    let counter = options.listen.counter()
    return HTTPServer(sockets: sockets, options: options, counter: counter, routes: routes)
  }

  /// Serves each connection with a task of its own, on the connection's loop, until the calling task is cancelled.
  ///
  /// On cancellation no more connections and requests are accepted: idle connections end, responses under way are finished, WebSockets are
  /// closed with 1001 and event streams ended; what has not ended within `shutdownTimeout` is cut. Returns when all have.
  /// - Throws: `CancellationError`, or an `IOError` of the listening socket.
  /// - Parameter routes: What is served. Default: what `listen` was given.
  public func run(
    routes: [HTTPRoute]? = nil, logger: Logger = Logger(label: "sluice.http.server")
  ) async throws {
    let routes = routes ?? self.routes
    sockets.onExhaustion { logger.warning("accepting paused: out of file descriptors", metadata: ["error": "\($0)"]) }
    try await sockets.run { index in
      let connections = sockets.listeners[index].map {
        HTTPConnection($0, routes: routes, options: options, counter: counter, logger: logger)
      }
      try await ConnectionService(connections, closeTimeout: options.shutdownTimeout) { service, connection in
        Task(executorPreference: service.loop) { () async throws in
          await connection.serve()
          service.didEnd(connection)
        }
      }.run()
    }
  }

  /// Listens and serves: see `listen` and `run`.
  public static func serve(
    _ url: String, options: HTTPServerOptions = HTTPServerOptions(), routes: [HTTPRoute],
    logger: Logger = Logger(label: "sluice.http.server")
  ) async throws {
    try await listen(url, options: options, routes: routes).run(logger: logger)
  }
}
