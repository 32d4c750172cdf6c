import Sluice
import SluiceHTTP
import SluiceServer
import SluiceTopics
import SluiceTopicsConnections
import SluiceWebSocket

/// Topics as routes of a server: each WebSocket is joined to the one that its path names, each event stream reads it.
struct TopicService: Sendable {
  private let topics: [TopicURL.Engine: Topics]
  private let opener: TopicOpener
  private let diagnostics: Diagnostics

  /// An application's code for what 410 says: the position that the client asked for is lost. The reason is where the log is whole from.
  private static let positionLost = CloseCode(rawValue: 4410)
  /// The type of the event that says the same, and of no event that is appended. It has no position as its id, as all that is read from a topic has: so what
  /// another program has appended as this type is told from it.
  static let lossEvent = "position-lost"

  /// Connects to all that the topics are kept by.
  init(
    _ urls: [TopicURL], for use: TopicOpener.Use, _ opener: TopicOpener, _ diagnostics: Diagnostics
  ) async throws {
    var topics: [TopicURL.Engine: Topics] = [:]
    for url in urls { topics[url.engine] = try await opener.topics(url.engine, for: use) }
    self.topics = topics
    self.opener = opener
    self.diagnostics = diagnostics
  }

  // MARK: WebSockets

  func webSocketRoute(_ path: String, _ url: TopicURL, _ options: WebSocketHandshakeOptions) -> HTTPRoute {
    var options = options
    options.connection.maxMessageSize = opener.maxMessage
    let (check, pattern) = (options.onRequest, RoutePattern(path))
    options.onRequest = { request in
      let acceptance = try await check?(request) ?? [:]
      try Self.check(request, pattern, url)
      return acceptance
    }
    return .webSocket(path, options: options) { ws in await join(ws, url) }
  }

  private func join(_ ws: WebSocket, _ url: TopicURL) async {
    do {
      let topic = try topic(url, ws.parameters)
      diagnostics.verbose("a client has joined \(topic.name)")
      let joined = try await topic.joined(from: ws.resumePosition ?? opener.options.beginning)
      if opener.writesJSON {
        // So that one who has heard nothing yet can come back, too.
        if let position = (joined.readableHalf as? TopicReader)?.position {
          try await ws.send("{\"position\":\"\(position)\"}")
        }
        try await bridge(ws, joined) { Message($0.json) }
      } else {
        try await bridge(ws, joined)
      }
      diagnostics.verbose("a client has left \(topic.name)")
    } catch TopicError.positionLost(let asked, let earliest) {
      diagnostics.verbose("a client asked for what is lost, behind \(asked)")
      try? await ws.close(Self.positionLost, "\(earliest)")
    } catch {
      if !(error is CancellationError) { diagnostics.notice("connection failed: \(error)") }
      try? await ws.close(after: error)
    }
  }

  // MARK: event streams

  func eventRoute(_ path: String, _ url: TopicURL, _ options: EventSourceServerOptions) -> HTTPRoute {
    var options = options
    let (check, pattern) = (options.onRequest, RoutePattern(path))
    options.onRequest = { request in
      let headers = try await check?(request) ?? [:]
      try Self.check(request, pattern, url)
      return headers
    }
    return .events(path, options: options) { events in
      do { try await send(topic(url, events.parameters), to: events) } catch StreamError.closed {
        // The client has left.
      } catch {
        if !(error is CancellationError) { diagnostics.verbose("event stream failed: \(error)") }
        events.abort(error)
      }
    }
  }

  private func send(_ topic: Topic, to events: EventStreamConnection) async throws {
    // What is lost from there on cuts the stream: the client comes back, and is told.
    try await reader(of: topic, for: events).pipe(events)
  }

  private func reader(of topic: Topic, for events: EventStreamConnection) async throws -> TopicReader {
    var beginning = events.resumePosition ?? opener.options.beginning
    while true {
      do { return try await topic.messages(from: beginning) } catch TopicError.positionLost(let asked, let earliest) {
        // Refused, it would never come back. It is told, and gets what there is.
        try await events.send("{\"asked\":\"\(asked)\",\"earliest\":\"\(earliest)\"}", event: Self.lossEvent)
        beginning = .after(earliest)
      }
    }
  }

  // MARK: names

  /// - Throws: `RequestRejection`, 404, for a path that names no topic.
  private static func check(
    _ request: HTTPRequest, _ pattern: RoutePattern, _ url: TopicURL
  ) throws(RequestRejection) {
    guard let path = RequestPath.normalized(request.pathAndQuery.path.wire), let match = pattern.match(path),
      url.name(with: match.parameters) != nil
    else { throw notFound }
  }

  private static let notFound = RequestRejection(status: 404, reason: "not found")

  private func topic(_ url: TopicURL, _ parameters: [String: String]) throws -> Topic {
    guard let name = url.name(with: parameters), let topics = topics[url.engine] else { throw Self.notFound }
    return try topics.topic(name)
  }
}
