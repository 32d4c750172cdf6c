import HTTPTypes
import SluiceEventSource
import SluiceHTTP
import SluiceIO
import SluiceStreams
import Synchronization

extension EventSource {
  /// Connects to an event stream.
  ///
  /// ```swift
  /// for try await event in try await EventSource.connect("https://example.com/feed") { print(event.data) }
  ///
  /// options.headers = ["Content-Type": "application/json", "Accept": "application/json, text/event-stream"]
  /// let answer = try await EventSource.connect(url, method: .post, body: question, options: options)
  /// ```
  /// - Parameters:
  ///   - method: GET, unless the stream is the answer to something that is sent. A request that is not safe to be repeated (RFC 9110 §9.2.1) is sent
  ///     once: see `EventSourceClientOptions.reconnects`.
  ///   - body: What is sent. Its type is a header of the options.
  /// - Throws: `URLError`, `HTTPFieldError` before anything is sent; `IOError`, `TLSError`, `ConnectError` if there is no connection;
  ///   `EventSourceError` if the response is not an event stream. Later losses are repaired by reconnecting. A server that answers with 204 has no events:
  ///   the stream ends at once.
  public static func connect(
    _ url: String, method: HTTPRequest.Method = .get, body: Bytes? = nil,
    options: EventSourceClientOptions = EventSourceClientOptions(), on loop: UVLoop = .shared
  ) async throws -> EventSourceClient {
    try await connect(url, method: method, body: body, options: options, on: loop) { origin, way in
      try await Connect.openForRequests(to: origin, options: way, on: loop)
    }
  }

  /// The same over byte streams that are made in some way.
  package static func connect(
    _ url: String, method: HTTPRequest.Method = .get, body: Bytes? = nil, options: EventSourceClientOptions,
    on loop: any Loop, _ open: @escaping EventSourceClient.Opener
  ) async throws -> EventSourceClient {
    let request = EventSourceRequest(
      try ConnectionURL(url, schemes: ["http", "https"]), method: method, body: body, headers: options.headers)
    let client = EventSourceClient(request, options, on: loop, open)
    try await withTaskExecutorPreference(loop) { try await client.start() }
    return client
  }
}

/// An event stream that is read, over as many connections as it takes: each names the last event that was seen.
///
/// It ends when the server answers with 204, and, if it does not come back, with the end of the response; a connection that is lost throws
/// then. What is final throws, again and again: another status than 200, 425, 500-599, 408 and 429, another content type, a limit.
/// Cancelling a `read` changes nothing but that read; `cancel` ends the stream, also while it waits to come back or comes back. It comes back when
/// it is read.
public final class EventSourceClient: PolledReadableStream {
  public typealias Output = ServerSentEvent

  public let loop: any Loop
  private let connector: EventSourceConnector
  private let options: EventSourceClientOptions
  private let reconnects: Bool
  /// Changed on the loop only, but for what reading an event that is there changes, which is done where the reader runs, and `cancel`.
  private let state: Mutex<State>

  /// Connects to an origin. On the client's loop.
  package typealias Opener = @Sendable (Origin, ConnectOptions) async throws -> RequestRoute

  fileprivate struct State {
    var phase: Phase
    var reader = ReaderSlot()
    var lastEventID: String?
    var retry: Duration
    /// Connections in a row that came to nothing.
    var failures = 0
    /// Since when a reader waits for what the connection gives.
    var waitingSince: Duration?
    /// Looks after the silence of the connection; it stays from one wait to the next.
    var silenceTimer: LoopTimer?
  }

  fileprivate enum Phase {
    case connected(EventFeed, since: Duration)
    /// The next connection is not made before this time of the loop's.
    case away(until: Duration)
    /// Waits for that time, and makes it.
    case returning(Task<Void, Never>)
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

  init(
    _ request: EventSourceRequest, _ options: EventSourceClientOptions, on loop: any Loop, _ open: @escaping Opener
  ) {
    connector = EventSourceConnector(request, options, on: loop, open)
    reconnects = options.reconnects ?? request.isSafe
    self.options = options
    self.loop = loop
    state = Mutex(State(phase: .away(until: .zero), lastEventID: options.lastEventID, retry: options.retry))
  }

  deinit {
    if case .connected(let feed, _) = state.withLock({ $0.phase }) { feed.transport.abort(StreamError.aborted) }
  }

  /// The id of the last event that was read.
  public var lastEventID: String? { state.withLock { $0.lastEventID } }

  /// On the loop, as all that connects.
  fileprivate func start() async throws {
    if let id = options.lastEventID, !HTTPSyntax.isValue(id) {
      throw HTTPFieldError.invalidValue(name: "Last-Event-ID")
    }
    arrive(try await connector.connect(lastEventID: options.lastEventID))
  }

  // MARK: reading

  public func read() async throws -> ServerSentEvent? {
    // What has come is inflated and parsed where the caller runs: it is no work for the loop, if it need not be.
    if !isOnLoop, case .event(let event) = try state.withLock({ try $0.nextUnlessRead() }) { return event }
    while true {
      switch try beginRead() {
      case .element(let event): return event
      case .end: return nil
      case .waiting(let waiter):
        let isCancelled = await waiter.waitOrCancel(on: loop)
        if !endWaiting() { await detachReaderOnLoop() }
        if isCancelled { throw CancellationError() }
      case .elsewhere: return try await readOnLoop()
      }
    }
  }

  public func poll() throws -> Polled<ServerSentEvent> {
    while true {
      switch try state.withLock({ try $0.next() }) {
      case .event(let event): return .element(event)
      case .end: return .end
      case .pause:
        // The loop has other streams, and looks after them before its timers.
        _ = loop.schedule(after: .zero) { [weak self] in self?.wakeReader() }
        return .pending
      case .needsBytes(let feed): if !receive(for: feed) { return .pending }
      case .lost(let feed, let since, let error): leave(feed, since: since, after: error)
      case .away(let time): comeBack(at: time)
      case .returning: return .pending
      }
    }
  }

  /// - Returns: whether the feed goes on.
  private func receive(for feed: EventFeed) -> Bool {
    do {
      switch try feed.transport.poll() {
      case .pending:
        waitForBytes(of: feed)
        return false
      case .element(let bytes):
        let bytes = feed.transport.detach(bytes)
        state.withLock { state in
          state.waitingSince = nil
          feed.take(bytes)
        }
      case .end: state.withLock { _ in feed.take(nil) }
      }
    } catch {
      state.withLock { _ in feed.fail(error) }
    }
    return true
  }

  public func attachReader(_ waker: any Waker) throws {
    let phase = try state.withLock { state in
      try state.reader.attach(waker)
      return state.phase
    }
    if case .connected(let feed, _) = phase { try feed.transport.attachReader(waker) }
  }

  public var hasReader: Bool { state.withLock { $0.reader.isTaken } }

  public func detachReader() {
    let phase = state.withLock { state in
      state.reader.detach()
      state.waitingSince = nil
      return state.phase
    }
    if case .connected(let feed, _) = phase { feed.transport.detachReader() }
  }

  private func wakeReader() { state.withLock { $0.reader.waker }?.wakeReader() }

  // MARK: silence

  private func waitForBytes(of feed: EventFeed) {
    guard let limit = options.silenceTimeout else { return }
    let now = loop.now
    let needsTimer = state.withLock { state in
      if state.waitingSince == nil { state.waitingSince = now }
      return state.silenceTimer == nil
    }
    if needsTimer { watch(feed, for: limit, limit) }
  }

  private func watch(_ feed: EventFeed, for time: Duration, _ limit: Duration) {
    let timer = loop.schedule(after: time) { [weak self] in self?.checkSilence(of: feed, limit) }
    state.withLock { $0.silenceTimer = timer }
  }

  private func checkSilence(of feed: EventFeed, _ limit: Duration) {
    let since = state.withLock { state in
      state.silenceTimer = nil
      return state.waitingSince
    }
    guard let since else { return }
    let left = since + limit - loop.now
    if left > .zero { return watch(feed, for: left, limit) }
    // What has come, and was not asked for because the reader had no room, breaks the silence too.
    if !receive(for: feed) {
      Reached.mark("events.silence")
      state.withLock { _ in feed.fail(EventSourceError.silence(limit)) }
    }
    wakeReader()
  }

  // MARK: coming back

  /// Goes on to another phase, unless the stream was cancelled meanwhile.
  @discardableResult
  private func change(to phase: Phase) -> Bool {
    state.withLock { state in
      if state.phase.isOver { return false }
      state.phase = phase
      return true
    }
  }

  /// A connection has ended, well or not.
  private func leave(_ feed: EventFeed, since: Duration, after loss: (any Error)?) {
    release(feed, loss ?? StreamError.aborted)
    let now = loop.now
    state.withLock { state in
      state.retry = feed.retry ?? state.retry
      state.lastEventID = feed.lastEventID
      if now - since >= Self.stableTime { state.failures = 0 }
    }
    switch loss {
    // A limit is passed again at the next connection.
    case StreamError.limitExceeded?: change(to: loss.map { .failed($0) } ?? .ended)
    case _ where reconnects: goAway(after: loss)
    case let loss?: change(to: .failed(loss))
    case nil: change(to: .ended)
    }
  }

  private func release(_ feed: EventFeed, _ reason: any Error) {
    if hasReader { feed.transport.detachReader() }
    feed.transport.abort(reason)
    let timer = state.withLock { state in
      state.waitingSince = nil
      return state.silenceTimer.take()
    }
    if let timer { loop.cancelTimer(timer) }
  }

  /// Waits until it is time, and connects: a task of its own, so that `cancel` can end it.
  private func comeBack(at time: Duration) {
    let attempt = Task(executorPreference: loop) { await self.connectAgain(at: time) }
    if !change(to: .returning(attempt)) { attempt.cancel() }
  }

  private func connectAgain(at time: Duration) async {
    do {
      try await loop.sleep(for: Swift.max(time - loop.now, .zero))
      arrive(try await connector.connect(lastEventID: lastEventID))
    } catch {
      if error is CancellationError || ReconnectOptions.isFinalByDefault(error) {
        change(to: .failed(error))
      } else {
        goAway(after: error)
      }
    }
    wakeReader()
  }

  /// - Parameter feed: nil if the server wants no more of it.
  private func arrive(_ feed: EventFeed?) {
    guard change(to: feed.map { .connected($0, since: loop.now) } ?? .ended) else {
      feed?.transport.abort(StreamError.aborted)
      return
    }
    guard let feed, let reader = state.withLock({ $0.reader.waker }) else { return }
    // Nobody else reads what has just been opened.
    do { try feed.transport.attachReader(reader) } catch { state.withLock { _ in feed.fail(error) } }
  }

  /// Comes back after a while, longer after each connection that came to nothing.
  private func goAway(after loss: (any Error)?) {
    let delay = nextDelay((loss as? any RetryAdvising)?.retryAfter)
    guard change(to: .away(until: loop.now + delay)) else { return }
    options.willWait(delay, loss)
  }

  /// How long to wait before the next connection.
  /// - Parameter wanted: What the server asks for, for this once.
  private func nextDelay(_ wanted: Duration?) -> Duration {
    let (retry, failures) = state.withLock { state in
      Reached.mark("events.comesBack")
      state.failures += 1
      return (Swift.max(state.retry, Self.minRetry), state.failures - 1)
    }
    var delay = retry
    for _ in 0..<Swift.min(failures, 20) where delay < options.maxRetry { delay *= 2 }
    delay = Swift.max(delay, wanted ?? .zero)
    delay = Swift.max(Swift.min(delay, options.maxRetry), retry)
    return delay * (1 + options.jitter() / 2)
  }

  public func cancel(_ reason: (any Error)?) {
    let phase = state.withLock { state in
      defer { if !state.phase.isOver { state.phase = .ended } }
      return state.phase
    }
    switch phase {
    case .connected(let feed, _): loop.perform { self.release(feed, reason ?? StreamError.aborted) }
    case .returning(let attempt):
      Reached.mark("events.cancelledWhileReturning")
      attempt.cancel()
    case .away, .ended, .failed: break
    }
    loop.perform { self.wakeReader() }
  }
}

extension EventSourceClient.State {
  fileprivate enum Next {
    case event(ServerSentEvent)
    case end
    case pause
    case needsBytes(EventFeed)
    /// The connection has ended as it should, or else with an error.
    case lost(EventFeed, since: Duration, (any Error)?)
    case away(until: Duration)
    case returning
  }

  fileprivate mutating func nextUnlessRead() throws -> Next {
    if reader.isTaken { throw StreamError.concurrentRead }
    return try next()
  }

  fileprivate mutating func next() throws -> Next {
    switch phase {
    case .connected(let feed, let since):
      do {
        switch try feed.next() {
        case .event(let event):
          retry = feed.retry ?? retry
          lastEventID = event.id
          failures = 0
          return .event(event)
        case .pause: return .pause
        case .needsBytes: return .needsBytes(feed)
        case .end: return .lost(feed, since: since, nil)
        }
      } catch {
        return .lost(feed, since: since, error)
      }
    case .away(let time): return .away(until: time)
    case .returning: return .returning
    case .ended: return .end
    case .failed(let error): throw error
    }
  }
}
