import HTTPTypes
import SluiceConnect
import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS
import Synchronization

extension EventSource {
  /// Connects to an event stream.
  ///
  /// ```swift
  /// for try await event in try await EventSource.connect("https://example.com/feed") { print(event.data) }
  /// ```
  /// - Throws: `URLError`, `HTTPFieldError` before anything is sent; `IOError`, `TLSError`, `ConnectError` if there is no connection;
  ///   `EventSourceError` if the answer is no event stream. Later losses are mended by coming back. A server that answers with 204 has no events:
  ///   the stream ends at once.
  public static func connect(
    _ url: String, options: EventSourceClientOptions = EventSourceClientOptions(), on loop: UVLoop = .shared
  ) async throws -> EventSourceClient {
    try await connect(url, options: options, on: loop) { origin, way in
      try await Connect.open(origin, options: way, on: loop)
    }
  }

  /// The same over byte streams that are made in some way.
  package static func connect(
    _ url: String, options: EventSourceClientOptions, on loop: any Loop, _ open: @escaping EventSourceClient.Opener
  ) async throws -> EventSourceClient {
    let client = EventSourceClient(try ConnectionURL(url, schemes: ["http", "https"]), options, on: loop, open)
    try await withTaskExecutorPreference(loop) { try await client.start() }
    return client
  }
}

/// An event stream that is read, over as many connections as it takes: each names the last event that was seen.
///
/// It ends when the server answers with 204, and, if it does not come back, with the end of the response; a connection that is lost throws
/// then. What is final throws, again and again: another status than 200, 500-599, 408 and 429, another content type, a limit.
/// Cancelling a `read` changes nothing but that read; `cancel` ends the stream, also while it waits to come back or comes back.
public final class EventSourceClient: ReadableStream {
  public typealias Output = ServerSentEvent

  private let url: ConnectionURL
  private let options: EventSourceClientOptions
  private let loop: any Loop
  private let openTransport: Opener
  private let state: Mutex<State>

  /// Connects to an origin. On the client's loop.
  package typealias Opener = @Sendable (Origin, ConnectOptions) async throws -> Connect.ByteStream

  private struct State {
    var phase: Phase
    var isReading = false
    var lastEventID: String?
    var retry: Duration
    /// Connections in a row that came to nothing.
    var failures = 0
  }

  private enum Phase {
    case connected(EventFeed, since: Duration)
    /// The next connection is not made before this time of the loop's.
    case away(until: Duration)
    /// Waits for that time, and makes it.
    case returning(Task<EventFeed?, any Error>)
    case ended
    case failed(any Error)

    /// Whether nothing can follow.
    var isOver: Bool {
      switch self {
      case .ended, .failed: true
      case .connected, .away, .returning: false
      }
    }
  }

  /// What lies between two connections at the least, whatever the server wants: one that ends each at once would keep both sides busy.
  private static let minRetry = Duration.milliseconds(100)
  /// A connection that has lasted so long was none in vain, though it gave no event.
  private static let stableTime = Duration.seconds(10)
  /// Bytes of an id that is named to the server: heads have limits.
  private static let maxIDBytes = 4 << 10

  init(
    _ url: ConnectionURL, _ options: EventSourceClientOptions, on loop: any Loop, _ openTransport: @escaping Opener
  ) {
    self.openTransport = openTransport
    self.url = url
    self.options = options
    self.loop = loop
    state = Mutex(State(phase: .away(until: .zero), lastEventID: options.lastEventID, retry: options.retry))
  }

  /// The id of the last event that was read.
  public var lastEventID: String? { state.withLock { $0.lastEventID } }

  /// On the loop, as all that connects.
  fileprivate func start() async throws {
    if let id = options.lastEventID, !HTTPSyntax.isValue(id) {
      throw HTTPFieldError.invalidValue(name: "Last-Event-ID")
    }
    let feed = try await reopen()
    change(to: feed.map { .connected($0, since: loop.now) } ?? .ended)
  }

  public func read() async throws -> ServerSentEvent? {
    try state.withLock { state in
      if state.isReading { throw StreamError.concurrentRead }
      state.isReading = true
    }
    defer { state.withLock { $0.isReading = false } }
    // Where the caller runs: what is inflated and parsed is no work for the loop, if it need not be.
    while true {
      switch state.withLock({ $0.phase }) {
      case .connected(let feed, let since): if let event = try await next(of: feed, since: since) { return event }
      case .away(let time): try await comeBack(at: time)
      case .returning: throw StreamError.concurrentRead
      case .ended: return nil
      case .failed(let error): throw error
      }
    }
  }

  /// Goes on to another phase, unless the stream was cancelled meanwhile.
  @discardableResult
  private func change(to phase: Phase) -> Bool {
    state.withLock { state in
      if state.phase.isOver { return false }
      state.phase = phase
      return true
    }
  }

  /// - Returns: nil when the connection has ended, well or not: the phase tells what follows.
  private func next(of feed: EventFeed, since: Duration) async throws -> ServerSentEvent? {
    var loss: (any Error)?
    do {
      if let event = try await feed.read() {
        state.withLock { state in
          state.retry = feed.retry ?? state.retry
          // What was read: the feed may be further.
          state.lastEventID = event.id
          state.failures = 0
        }
        return event
      }
    } catch is CancellationError where Task.isCancelled {
      throw CancellationError()
    } catch {
      loss = error
    }
    state.withLock { state in
      state.retry = feed.retry ?? state.retry
      state.lastEventID = feed.lastEventID
    }
    switch loss {
    // A limit is passed again at the next connection.
    case StreamError.limitExceeded?: change(to: loss.map { .failed($0) } ?? .ended)
    case _ where options.reconnects:
      let now = await loop.currentTime()
      if now - since >= Self.stableTime { state.withLock { $0.failures = 0 } }
      goAway(after: loss, at: now)
    case let loss?: change(to: .failed(loss))
    case nil: change(to: .ended)
    }
    return nil
  }

  /// Waits until it is time, and connects. A task of its own, so that `cancel` can end it.
  private func comeBack(at time: Duration) async throws {
    let attempt = Task(executorPreference: loop) { [self] in
      try await loop.sleep(for: Swift.max(time - loop.now, .zero))
      return try await reopen()
    }
    guard change(to: .returning(attempt)) else { return attempt.cancel() }
    let result = await withTaskCancellationHandler {
      await attempt.result
    } onCancel: {
      attempt.cancel()
    }
    switch result {
    case .success(let feed):
      let now = await loop.currentTime()
      if !change(to: feed.map { .connected($0, since: now) } ?? .ended) { feed?.cancel(nil) }
    case .failure(is CancellationError) where Task.isCancelled:
      change(to: .away(until: time))
      throw CancellationError()
    case .failure(let error):
      if error is CancellationError || ReconnectOptions.isFinalByDefault(error) {
        change(to: .failed(error))
      } else {
        goAway(after: error, at: await loop.currentTime())
      }
    }
  }

  /// Comes back after a while, longer after each connection that came to nothing.
  private func goAway(after loss: (any Error)?, at now: Duration) {
    let delay = nextDelay()
    guard change(to: .away(until: now + delay)) else { return }
    options.willWait(delay, loss)
  }

  private func reopen() async throws -> EventFeed? {
    do { return try await open() } catch EventSourceError.refused(status: 204, _, _) {
      // HTML standard §9.2.3: the server wants no more of it.
      return nil
    }
  }

  /// How long to wait before the next connection: longer after each that came to nothing.
  private func nextDelay() -> Duration {
    let (retry, failures) = state.withLock { state in
      state.failures += 1
      return (Swift.max(state.retry, Self.minRetry), state.failures - 1)
    }
    var delay = retry
    for _ in 0..<Swift.min(failures, 20) where delay < options.maxRetry { delay *= 2 }
    delay = Swift.max(Swift.min(delay, options.maxRetry), retry)
    return delay * (1 + options.jitter() / 2)
  }

  public func cancel(_ reason: (any Error)?) {
    let phase = state.withLock { state in
      defer { if !state.phase.isOver { state.phase = .ended } }
      return state.phase
    }
    switch phase {
    case .connected(let feed, _): feed.cancel(reason)
    case .returning(let attempt): attempt.cancel()
    case .away, .ended, .failed: break
    }
  }

  // MARK: connecting

  private func open() async throws -> EventFeed {
    var url = url
    var headers = options.headers
    let start = loop.now
    for _ in 0...Swift.max(options.maxRedirects, 0) {
      let left = Swift.max(options.connectTimeout - (loop.now - start), .zero)
      let answer = try await ask(url, headers, within: left)
      let redirect = try redirect(of: answer, from: url)
      guard let redirect else { return try answer.feed(options, lastEventID: lastEventID) }
      answer.transport.abort(StreamError.aborted)
      if !redirect.keepsOrigin { headers.remove(Redirect.secretFields) }
      url = redirect.url
    }
    throw EventSourceError.redirect("it is one more than the \(options.maxRedirects) that are followed")
  }

  private func redirect(of answer: ServerAnswer, from url: ConnectionURL) throws(EventSourceError) -> Redirect? {
    do {
      return try Redirect(
        status: answer.response.status.code, headers: answer.response.headerFields, from: url,
        schemes: ["http": "http", "https": "https"])
    } catch {
      answer.transport.abort(StreamError.aborted)
      throw .redirect(error.reason)
    }
  }

  private func ask(_ url: ConnectionURL, _ headers: Headers, within time: Duration) async throws -> ServerAnswer {
    let request = try requestHead(url, headers)
    var way = ConnectOptions()
    way.timeout = time
    way.tcp = options.tcp
    way.tls = options.tls
    way.proxy = options.proxy
    let start = loop.now
    let transport = try await openTransport(Origin(host: url.host, port: url.port, isSecure: url.isSecure), way)
    let left = Swift.max(time - (loop.now - start), .zero)
    return try await ServerAnswer.read(from: transport, request, within: left, options)
  }

  private func requestHead(_ url: ConnectionURL, _ headers: Headers) throws -> Bytes {
    var writer = HeadWriter("GET \(url.target) HTTP/1.1")
    try writer.append("Host", url.authority)
    try writer.append("Accept", "text/event-stream")
    try writer.append("Accept-Encoding", "gzip")
    try writer.append("Cache-Control", "no-store")
    var reserved: Set<String> = [
      "host", "accept", "accept-encoding", "cache-control", "last-event-id", "content-length", "transfer-encoding",
      "connection",
    ]
    // An id of the server's that no field can hold is not named: it sends from its beginning, rather than nothing any more.
    if let id = lastEventID, !id.isEmpty, id.utf8.count <= Self.maxIDBytes, HTTPSyntax.isValue(id) {
      try writer.append("Last-Event-ID", id)
    }
    if let userInfo = url.userInfo {
      try writer.append("Authorization", BasicCredentials(userInfo).field)
      reserved.insert("authorization")
    }
    try writer.append(headers, reserved: reserved)
    return writer.finish()
  }
}

extension EventSourceError: RetryAdvising {
  package var isFinal: Bool {
    switch self {
    case .refused(let status, _, _): status != 429 && status != 408 && !(500...599).contains(status)
    case .wrongContentType, .unsupportedBody, .redirect: true
    case .endedEarly, .timeout, .silence, .stalled, .malformedResponse, .outOfMemory: false
    }
  }
}
