import Sluice
import SluiceHTTP
import SluiceServer
import SluiceTopics
import SluiceTopicsConnections
import SluiceWebSocket

/// Serves topics: each WebSocket is joined to the one that its path names, each event stream reads it.
struct TopicService: Sendable {
  let topic: TopicURL
  let opener: TopicOpener
  let interruption: Interruption
  let diagnostics: Diagnostics

  /// An application's code for what 410 says: the position that the client asked for is lost. The reason is where the log is whole from.
  private static let positionLost = CloseCode(rawValue: 4410)

  func serveWebSockets(_ url: String, _ options: WebSocketServerOptions) async throws {
    let path = try ServedPath(url, topic.name)
    var options = options
    options.connection.maxMessageSize = opener.maxMessage
    let check = options.onRequest
    options.onRequest = { request in
      let acceptance = try await check?(request) ?? [:]
      _ = try path.topic(of: request.pathAndQuery.path)
      return acceptance
    }
    let topics = try await opener.topics(topic.engine, for: .appending)
    let server = try await WebSocketServer.listen(path.base, options: options)
    server.onExhaustion { diagnostics.tellOfExhaustion($0) }
    diagnostics.notice("listening on \(path.url(listening: server.url))")
    try await untilInterrupted { try await server.run { await join($0, path, topics) } }
  }

  private func join(_ ws: WebSocket, _ path: ServedPath, _ topics: Topics) async {
    do {
      let topic = try topics.topic(path.topic(of: ws.path))
      diagnostics.verbose("a client has joined \(topic.name)")
      try await bridge(ws, topic.joined(from: ws.resumePosition ?? opener.options.beginning))
      diagnostics.verbose("a client has left \(topic.name)")
    } catch TopicError.positionLost(let asked, let earliest) {
      diagnostics.verbose("a client asked for what is lost, behind \(asked)")
      try? await ws.close(Self.positionLost, "\(earliest)")
    } catch {
      if !(error is CancellationError) { diagnostics.notice("connection failed: \(error)") }
      try? await ws.close(after: error)
    }
  }

  func serveEvents(_ url: String, _ service: EventService) async throws {
    let path = try ServedPath(url, topic.name)
    var options = service.events
    let check = options.onRequest
    options.onRequest = { request in
      let headers = try await check?(request) ?? [:]
      _ = try path.topic(of: request.pathAndQuery.path)
      return headers
    }
    let topics = try await opener.topics(topic.engine, for: .reading)
    let server = try await EventSourceServer.listen(path.base, options: options, server: service.server)
    diagnostics.notice("listening on sse+\(path.url(listening: server.url))")
    try await untilInterrupted {
      try await server.run { events in
        do { try await send(topics.topic(path.topic(of: events.path)), to: events) } catch StreamError.closed {
          // The client has left.
        } catch {
          if !(error is CancellationError) { diagnostics.verbose("event stream failed: \(error)") }
          events.abort(error)
        }
      }
    }
  }

  private func send(_ topic: Topic, to events: EventStreamConnection) async throws {
    let reader: TopicReader
    do {
      reader = try await topic.messages(from: events.resumePosition ?? opener.options.beginning)
    } catch TopicError.positionLost(let asked, let earliest) {
      // Refused, it would come back with the same position for ever. It is told, and gets what there is.
      try await events.send("{\"asked\":\"\(asked)\",\"earliest\":\"\(earliest)\"}", event: "position-lost")
      reader = try await topic.messages(from: .after(earliest), onLoss: .resume(from: .earliest))
    }
    try await reader.pipe(events)
  }

  private func untilInterrupted(_ body: @escaping @Sendable () async throws -> Void) async throws {
    let running = Task(executorPreference: UVLoop.shared) { try await body() }
    let stop = interruption.add { running.cancel() }
    defer { interruption.remove(stop) }
    do { try await running.value } catch is CancellationError {
      // Ended as it was asked to.
    }
  }
}

/// The paths that a server of topics is for, and which topic each of them names.
struct ServedPath: Sendable {
  /// The URL to listen at, without a path.
  let base: String
  private let path: String
  /// nil: all paths, as for every server whose URL has none.
  private let pattern: RoutePattern?
  private let name: TopicName

  init(_ url: String, _ name: TopicName) throws(UsageError) {
    // Behind "ws://".
    let authority = url.drop { $0 != ":" }.dropFirst(3)
    let slash = authority.firstIndex { $0 == "/" || $0 == "?" } ?? url.endIndex
    base = String(url[..<slash])
    path = String(url[slash...])
    guard !path.contains("?") else { throw UsageError("'\(url)' must not have a query ('?…')") }
    pattern = path.isEmpty || path == "/" ? nil : RoutePattern(path)
    self.name = name
    let missing = name.parameters.subtracting(pattern?.parameterNames ?? [])
    if let first = missing.sorted().first {
      throw UsageError(
        "the topic's name has {\(first)}, and the path '\(path.isEmpty ? "/" : path)' has not; write it as a segment, as in /rooms/{\(first)}"
      )
    }
  }

  func url(listening url: String) -> String { (url.hasSuffix("/") ? String(url.dropLast()) : url) + path }

  /// - Parameter path: Of a request, as it came.
  /// - Throws: `RequestRejection`, 404, for a path that names none.
  func topic(of path: String) throws(RequestRejection) -> String {
    var values: [String: String] = [:]
    if let pattern {
      guard let path = RequestPath.normalized(path.wire), let match = pattern.match(path) else { throw Self.notFound }
      values = match.parameters
    }
    guard let name = name.filled(with: values) else { throw Self.notFound }
    return name
  }

  private static let notFound = RequestRejection(status: 404, reason: "not found")
}
