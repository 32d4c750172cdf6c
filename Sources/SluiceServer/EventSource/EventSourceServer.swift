import Logging
import SluiceEventSource
import SluiceHTTP
import SluiceStreams

/// A listening server of event streams.
///
/// ```swift
/// let server = try await EventSourceServer.listen("http://127.0.0.1:0/feed")
/// print("listening on", server.url)
/// try await server.run { events in try await events.send("hello") }
/// ```
public struct EventSourceServer: Sendable {
  private let server: HTTPServer
  private let path: String
  private let options: EventSourceServerOptions

  /// Where it listens, with the port that the system chose if 0 was asked for.
  public var url: String { server.url }
  public var port: Int { server.port }

  /// Listens on the host and port of a URL.
  /// - Parameter url: `http://HOST[:PORT][/PATH]`, or `https://…` with `server.tls`. With a path other than "/", only requests for that
  ///   path are served; others are answered with 404.
  /// - Throws: As `HTTPServer.listen`.
  public static func listen(
    _ url: String, options: EventSourceServerOptions = EventSourceServerOptions(),
    server: HTTPServerOptions = HTTPServerOptions()
  ) async throws -> EventSourceServer {
    let target = try ConnectionURL(url, schemes: ["http", "https"], allowsPortZero: true).target
    return EventSourceServer(
      server: try await HTTPServer.listen(url, options: server), path: target == "/" ? "/*" : target,
      options: options)
  }

  /// Serves each client with a task of its own, on the client's loop, until the calling task is cancelled.
  ///
  /// A handler that returns ends its stream; the client comes back then, as the standard has it. One that throws cuts it; the error goes to
  /// the log. On cancellation the streams are ended.
  /// - Throws: `CancellationError`, or an `IOError` of the listening socket.
  public func run(
    logger: Logger = Logger(label: "sluice.eventsource.server"),
    _ handler: @escaping @Sendable (EventStreamConnection) async throws -> Void
  ) async throws {
    try await server.run(routes: [.events(path, options: options, handler)], logger: logger)
  }
}

extension EventSource {
  /// Listens, and serves each client with a task of its own: see `EventSourceServer.listen` and `run`.
  public static func serve(
    _ url: String, options: EventSourceServerOptions = EventSourceServerOptions(),
    server: HTTPServerOptions = HTTPServerOptions(), logger: Logger = Logger(label: "sluice.eventsource.server"),
    _ handler: @escaping @Sendable (EventStreamConnection) async throws -> Void
  ) async throws {
    try await EventSourceServer.listen(url, options: options, server: server).run(logger: logger, handler)
  }
}
