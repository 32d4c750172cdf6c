import ArgumentParser
import Sluice
import SluiceClient
import SluiceEventSource
import SluiceHTTP
import SluiceStreams

/// What the command line says of event streams.
struct EventCommandOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Read only events of this type, or send or append what is sent as events of this type.", valueName: "TYPE"))
  var event: String?

  @Option(help: ArgumentHelp("Start after the event with this id.", valueName: "ID"))
  var lastEventID: String?

  @Flag(
    help:
      "Write each event as a line of JSON: event, data, id; of a topic: position, time, event, data. A topic behind listen+ws: is sent to its clients so."
  )
  var json = false

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("The longest event to accept, or to make of a line, in bytes.", valueName: "BYTES"))
  var maxEvent = EventStreamLimits().maxEventBytes

  func validate() throws {
    if let event, event.utf8.contains(where: { "\n\r\0".utf8.contains($0) }) {
      throw ValidationError("--event must not contain line breaks or NUL bytes.")
    }
    if let lastEventID, !HTTPSyntax.isValue(lastEventID) {
      throw ValidationError("--last-event-id must not contain control characters.")
    }
    if maxEvent < 1 { throw ValidationError("--max-event must be 1 or more, not \(maxEvent).") }
  }

  /// The events of a stream, each as a line or several.
  func source(
    _ url: String, _ request: RequestCommandOptions, _ client: WebSocketClientOptions, _ reconnection: Reconnection?
  ) async throws -> any ReadableStream<Bytes> {
    var options = EventSourceClientOptions()
    options.headers = client.headers
    options.connect = client.connect
    options.lastEventID = lastEventID
    options.limits = EventStreamLimits(maxEventBytes: maxEvent)
    options.reconnects = reconnection != nil
    if let reconnection {
      options.maxRetry = reconnection.maxDelay
      options.willWait = { delay, error in
        reconnection.diagnostics.notice(
          "\(error ?? ConnectionEnded()); reconnecting in \(Reconnection.text(delay))")
      }
    }
    let final = options
    let body = try await request.body()
    let method = request.method(whereContent: body != nil)
    let open = { @Sendable in
      try await EventSource.connect(url, method: method, body: body, options: final)
    }
    let feed = if let reconnection { try await reconnection.events(open) } else { try await open() }
    return feed.pipe(through: EventsToLines(type: event, json: json))
  }

  /// A sink whose lines go to all who listen.
  func broadcast(
    _ url: String, _ service: EventService, _ slow: SlowConnection
  ) async throws -> any WritableStream<Bytes> {
    let server = try await EventSourceServer.listen(url, options: service.events, server: service.server)
    // What is connected to this later is ended by that signal too: see `Interruption.add`.
    service.notice.tell("sse+\(server.url)") {}
    let broadcast = EventBroadcast(whenSlow: slow.policy(of: EventStreamConnection.self))
    Task {
      do { try await server.run { try await broadcast.serve($0) } } catch {
        service.notice.diagnostics.notice("no longer accepting clients: \(error)")
      }
    }
    let batches = Writable<[ServerSentEvent]>(
      onClose: { try await broadcast.close() }, onAbort: { broadcast.abort($0) },
      { try await broadcast.write(contentsOf: $0) })
    return batches.behind(LinesToEvents(type: event, limit: maxEvent))
  }
}

/// How events are given to those who listen.
struct EventService: Sendable {
  var events = EventSourceServerOptions()
  var server = HTTPServerOptions()
  let notice: ListeningNotice

  /// - Parameters:
  ///   - headers: Added to each answer.
  ///   - origins: Whose pages may read the events. Those of the server's own host need no permission.
  init(headers: Headers, origins: OriginPolicy, credentials: CredentialUse, _ notice: ListeningNotice) {
    self.notice = notice
    events.headers = headers
    events.origins = origins
    events.onRequest = { request in
      try credentials.check(request)
      return [:]
    }
  }
}

/// Makes a line of each event, or of each of one type.
private struct EventsToLines: Transform {
  let type: String?
  let json: Bool

  func transform(_ event: consuming ServerSentEvent, into output: inout TransformOutput<Bytes>) {
    // HTML standard §9.2.6: one without a type is a message.
    if let type, (event.event ?? "message") != type { return }
    var line = BytesBuilder(capacity: event.data.utf8.count + 1)
    line.append(json ? event.json : event.data)
    line.append(UInt8(ascii: "\n"))
    output.append(line.take())
  }
}

/// Makes an event of each line; those of lines that come together stay together.
private struct LinesToEvents: Transform {
  let type: String?
  private var decoder: DelimiterDecoder

  init(type: String?, limit: Int) {
    self.type = type
    decoder = DelimiterDecoder(UInt8(ascii: "\n"), dropsCarriageReturn: true, limit: limit)
  }

  mutating func transform(_ input: consuming Bytes, into output: inout TransformOutput<[ServerSentEvent]>) throws {
    var found = TransformOutput<Bytes>()
    try decoder.transform(input, into: &found)
    give(&found, &output)
  }

  mutating func resume(into output: inout TransformOutput<[ServerSentEvent]>) throws {
    var found = TransformOutput<Bytes>()
    try decoder.resume(into: &found)
    give(&found, &output)
  }

  mutating func finish(into output: inout TransformOutput<[ServerSentEvent]>) throws {
    var found = TransformOutput<Bytes>()
    try decoder.finish(into: &found)
    give(&found, &output)
  }

  private func give(_ found: inout TransformOutput<Bytes>, _ output: inout TransformOutput<[ServerSentEvent]>) {
    var events: [ServerSentEvent] = []
    while let line = found.popFirst() { events.append(ServerSentEvent(line.string, event: type)) }
    if !events.isEmpty { output.append(events) }
    if found.isPaused { output.pause() }
  }
}

extension ServerSentEvent {
  fileprivate var json: String {
    "{\"event\":\((event ?? "message").jsonQuoted),\"data\":\(data.jsonQuoted),\"id\":\(id.map(\.jsonQuoted) ?? "null")}"
  }
}
