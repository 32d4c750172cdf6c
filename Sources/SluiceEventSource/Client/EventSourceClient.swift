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
  ///   `EventSourceError` if the answer is no event stream. Later losses are mended by coming back.
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
    try await client.start()
    return client
  }
}

/// An event stream that is read, over as many connections as it takes: each names the last event that was seen.
///
/// It ends when the server answers with 204, and, if it does not come back, with the connection. What is final throws: another status
/// than 200, 500-599 and 429, another content type, a limit.
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
    var feed: EventFeed?
    var isReading = false
    var isCancelled = false
    var lastEventID: String?
    var retry: Duration
    /// Connections in a row that gave no event.
    var failures = 0
    /// What the last connection failed with, if it did.
    var loss: (any Error)?
    /// The time until the next attempt.
    var wait: Task<Void, any Error>?
  }

  init(
    _ url: ConnectionURL, _ options: EventSourceClientOptions, on loop: any Loop, _ openTransport: @escaping Opener
  ) {
    self.openTransport = openTransport
    self.url = url
    self.options = options
    self.loop = loop
    state = Mutex(State(lastEventID: options.lastEventID, retry: options.retry))
  }

  /// The id of the last event that was read.
  public var lastEventID: String? { state.withLock { $0.lastEventID } }

  func start() async throws {
    let feed = try await open()
    state.withLock { $0.feed = feed }
  }

  public func read() async throws -> ServerSentEvent? {
    try state.withLock { state in
      if state.isReading { throw StreamError.concurrentRead }
      state.isReading = true
    }
    defer { state.withLock { $0.isReading = false } }
    while true {
      let (current, isCancelled) = state.withLock { ($0.feed, $0.isCancelled) }
      if isCancelled { return nil }
      if let current {
        if let event = try await next(of: current) { return event }
        let loss = state.withLock { state in
          state.feed = nil
          return state.loss.take()
        }
        guard options.reconnects else { return nil }
        try await waitToReturn(after: loss)
        continue
      }
      do {
        guard let feed = try await reopen() else { return nil }
        state.withLock { $0.feed = feed }
      } catch {
        if error is CancellationError || ReconnectOptions.isFinalByDefault(error) { throw error }
        try await waitToReturn(after: error)
      }
    }
  }

  /// - Returns: nil when the connection has ended, well or not.
  private func next(of feed: EventFeed) async throws -> ServerSentEvent? {
    do {
      let event = try await feed.read()
      state.withLock { state in
        state.retry = feed.retry ?? state.retry
        state.lastEventID = feed.lastEventID
        if event != nil { state.failures = 0 }
      }
      return event
    } catch let error as StreamError {
      // A limit is passed again at the next connection.
      if case .limitExceeded = error { throw error }
    } catch is CancellationError {
      throw CancellationError()
    } catch {
      state.withLock { $0.loss = error }
    }
    return nil
  }

  private func reopen() async throws -> EventFeed? {
    do { return try await open() } catch EventSourceError.refused(status: 204, _, _) {
      // HTML standard §9.2.3: the server wants no more of it.
      return nil
    }
  }

  private func waitToReturn(after error: (any Error)?) async throws {
    let (retry, failures) = state.withLock { state in
      state.failures += 1
      return (state.retry, state.failures - 1)
    }
    var delay = retry
    for _ in 0..<Swift.min(failures, 20) where delay < options.maxRetry { delay *= 2 }
    delay = Swift.max(Swift.min(delay, options.maxRetry), retry)
    delay = delay * (1 + options.jitter() / 2)
    options.willWait(delay, error)
    let (loop, length) = (loop, delay)
    let wait = Task(executorPreference: loop) { try await loop.sleep(for: length) }
    let isCancelled = state.withLock { state in
      state.wait = wait
      return state.isCancelled
    }
    if isCancelled { wait.cancel() }
    await withTaskCancellationHandler {
      _ = await wait.result
    } onCancel: {
      wait.cancel()
    }
    // A stream that was cancelled meanwhile ends.
    try Task.checkCancellation()
  }

  public func cancel(_ reason: (any Error)?) {
    let (feed, wait) = state.withLock { state in
      state.isCancelled = true
      return (state.feed.take(), state.wait)
    }
    wait?.cancel()
    feed?.cancel(reason)
  }

  // MARK: connecting

  private func open() async throws -> EventFeed {
    try await withTaskExecutorPreference(loop) { try await openOnLoop() }
  }

  private func openOnLoop() async throws -> EventFeed {
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
      "host", "accept", "last-event-id", "content-length", "transfer-encoding", "connection",
    ]
    if let id = lastEventID, !id.isEmpty { try writer.append("Last-Event-ID", id) }
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
    case .endedEarly, .timeout, .malformedResponse, .outOfMemory: false
    }
  }
}
