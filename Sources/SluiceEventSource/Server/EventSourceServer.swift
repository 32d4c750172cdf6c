import Logging
import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS

/// A listening server of event streams.
///
/// ```swift
/// let server = try await EventSourceServer.listen("http://127.0.0.1:0/feed")
/// print("listening on", server.url)
/// try await server.run { events in try await events.send("hello") }
/// ```
public struct EventSourceServer: Sendable {
  /// Where it listens, with the port that the system chose if 0 was asked for.
  public let url: String
  public let port: Int
  private let listener: SocketListener
  private let path: String?
  private let options: EventSourceServerOptions

  /// Listens on the host and port of a URL.
  /// - Parameter url: `http://HOST[:PORT][/PATH]`, or `https://…` with `options.tls`. With a path other than "/", only requests for that
  ///   path are served.
  /// - Throws: `URLError`, `IOError`, `TLSError.invalidOption` for `https:` without certificates.
  public static func listen(
    _ url: String, options: EventSourceServerOptions = EventSourceServerOptions(), on loop: UVLoop = .shared
  ) async throws -> EventSourceServer {
    let parsed = try ConnectionURL(url, schemes: ["http", "https"], allowsPortZero: true)
    guard (parsed.scheme == "https") == (options.tls != nil) else {
      throw TLSError.invalidOption(
        "the server's certificates",
        reason: options.tls == nil ? "https: needs them (options.tls)" : "http: does not use them")
    }
    let listener = try await TCP.listen(parsed.host, port: parsed.port, options: options.tcp, on: loop)
    return EventSourceServer(
      url: parsed.description(withPort: listener.port), port: listener.port, listener: listener,
      path: parsed.target == "/" ? nil : parsed.target, options: options)
  }

  /// Serves each client with a task of its own, on the client's loop, until the calling task is cancelled.
  ///
  /// A handler that returns ends its stream; the client comes back then, as the standard has it. One that throws cuts it; the error goes to
  /// the log. On cancellation the streams are cut.
  /// - Throws: `CancellationError`, or an `IOError` of the listening socket.
  public func run(
    logger: Logger = Logger(label: "sluice.eventsource.server"),
    _ handler: @escaping @Sendable (EventStreamConnection) async throws -> Void
  ) async throws {
    defer { listener.cancel(nil) }
    try await withThrowingDiscardingTaskGroup { group in
      while let socket = try await listener.read() {
        group.addTask(executorPreference: listener.loop) { await serve(socket, logger, handler) }
      }
    }
    try Task.checkCancellation()
  }

  private func serve(
    _ socket: SocketStream, _ logger: Logger, _ handler: @Sendable (EventStreamConnection) async throws -> Void
  ) async {
    let events: EventStreamConnection
    do { events = try await accept(socket) } catch {
      logger.debug("no event stream", metadata: ["error": "\(error)"])
      return
    }
    do {
      try await handler(events)
      try await events.close()
    } catch {
      if await events.isOpen && !Task.isCancelled {
        logger.error("handler failed", metadata: ["error": "\(error)"])
      }
      events.abort(error)
    }
  }

  private func accept(_ socket: SocketStream) async throws -> EventStreamConnection {
    guard let tls = options.tls else { return try await EventSource.accept(over: socket, options: options, path: path) }
    return try await EventSource.accept(over: tls.accept(over: socket), options: options, path: path)
  }
}

extension EventSource {
  /// Listens, and serves each client with a task of its own: see `EventSourceServer.listen` and `run`.
  public static func serve(
    _ url: String, options: EventSourceServerOptions = EventSourceServerOptions(),
    logger: Logger = Logger(label: "sluice.eventsource.server"),
    _ handler: @escaping @Sendable (EventStreamConnection) async throws -> Void
  ) async throws {
    try await EventSourceServer.listen(url, options: options).run(logger: logger, handler)
  }
}
