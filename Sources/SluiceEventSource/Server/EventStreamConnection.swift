import HTTPTypes
import SluiceHTTP
import SluiceStreams
import SluiceZlib
import Synchronization

/// One client of an event stream, as its server sees it: a writable stream of events.
///
/// ```swift
/// try await EventSource.serve("http://127.0.0.1:8000/feed") { events in
///   try await events.send("hello")
///   try await feed.map { ServerSentEvent($0) }.pipe(events)
/// }
/// ```
/// A slow client holds back its writer: `send` returns when there is room for the next event. A client that reads nothing at all for
/// `stallTimeout` is cut. One that ends its own half, or leaves, gets what was sent before, and the end.
public final class EventStreamConnection: PolledWritableStream, WriterHolding, GatheringSink, @unchecked Sendable {
  // What is `let` may be read from everywhere; everything else is touched on the loop only.
  public typealias Input = ServerSentEvent

  public let loop: any Loop
  /// What the client asked for, with its path and headers.
  public let request: HTTPRequest
  /// Where the client is, also behind trusted proxies and load balancers: nil if one of these did not say, or the transport has no such address.
  public let remoteAddress: IPAddress?
  /// On a route of an `HTTPServer`: what stands in the path where the route's has `{name}`, decoded.
  public let parameters: [String: String]
  private let transport: any PolledDuplexStream<Bytes, Bytes>
  private let isChunked: Bool
  let options: EventSourceServerOptions
  private var state = WriteHalf.open {
    didSet { if case .open = state {} else { hasEnded.store(true, ordering: .releasing) } }
  }
  /// Whether `state` is another than open, for every thread.
  private let hasEnded = Atomic(false)
  private var gathered = BytesBuilder()
  /// Compresses what is sent, where the client takes that.
  private var gzip: GzipWriter?
  /// Whether producers wait, as far as the observer knows.
  private var isFull = false
  package var writer = RoomWaiters.nobody
  /// Who waits in `send`.
  var senders = SenderQueue()
  /// Whether somebody was told that there is no room, and waits for it.
  private var isRoomAwaited = false
  @usableFromInline package var isFlushScheduled = false
  /// What runs the handler: to be cancelled when the stream has ended without it.
  package var servingTask: Task<Void, any Error>?
  private var pingTimer: LoopTimer?
  /// While the client leaves no room.
  private var stallWatch: StallWatch?
  private var waitingForEnd: [CheckedContinuation<Bool, Never>] = []

  /// Takes over a transport on which the response head is on its way. On its loop only.
  init(
    over transport: any PolledDuplexStream<Bytes, Bytes>, request: HTTPRequest, _ context: RequestContext,
    isChunked: Bool, isCompressed: Bool, options: EventSourceServerOptions
  ) throws {
    gzip = isCompressed ? GzipWriter(Self.compression) : nil
    self.transport = transport
    self.request = request
    remoteAddress = context.peer.address(of: transport)
    parameters = context.parameters
    self.isChunked = isChunked
    self.options = options
    loop = transport.loop
    try transport.attachReader(self)
    try transport.attachWriter(self)
    options.observer?.didOpen()
    if isCompressed {
      gathered = loop.scratch.take()
      let header = GzipWriter.header
      appendToBody(header.span)
      flush()
    }
    schedulePing()
    wakeReader()
  }

  /// The URL that the client asked for.
  public var url: String {
    let scheme = (transport as? any TransportDescribing)?.isSecure ?? false ? "https" : "http"
    return "\(scheme)://\(request.authority ?? "")\(request.path ?? "/")"
  }

  /// The path that was asked for, without the query; on a route of an `HTTPServer`, in the spelling that `HTTPRoute` describes.
  public var path: String { request.pathAndQuery.path }

  /// What stands behind the `?` of the URL; nil if there is none.
  public var query: String? { request.pathAndQuery.query }

  /// The last event that the client has seen, as it says; nil at its first time.
  public var lastEventID: String? {
    request.headerFields.first { $0.name.canonicalName == "last-event-id" }?.value
  }

  /// Whether events can still be sent: the client has not left, and nobody has closed the stream.
  public var isOpen: Bool { !hasEnded.load(ordering: .acquiring) }

  // MARK: sending

  /// Sends a comment, which shows proxies and the client that the connection lives.
  public func ping() async throws {
    try await loop.run {
      _ = try self.hasRoom()
      self.sendPing()
    }
  }

  public func hasRoom() throws -> Bool {
    assertOnLoop()
    switch state {
    case .open:
      let hasRoom = try gathered.count < options.writeHighWatermark && transport.hasRoom()
      if !hasRoom { isRoomAwaited = true }
      return hasRoom
    case .closing, .closed, .failed: throw state.refusal
    }
  }

  public func push(_ event: consuming ServerSentEvent) throws {
    assertOnLoop()
    try checkWritable()
    var text = BytesBuilder()
    try event.write(to: &text)
    let count = text.count
    append(text.take())
    noteSent(byteCount: count)
  }

  /// - Throws: what the stream failed with, or `StreamError.closed`.
  func checkWritable() throws {
    guard case .open = state else {
      _ = try hasRoom()
      return
    }
  }

  func append(_ text: Bytes) {
    if gathered.capacity == 0 { gathered = loop.scratch.take() }
    if gzip == nil { return appendToBody(text.span) }
    var compressed = BytesBuilder(capacity: 64 + text.count / 4)
    gzip?.append(text.span, to: &compressed)
    appendToBody(compressed.take().span)
  }

  func append(_ event: PreparedEvent) {
    if gathered.capacity == 0 { gathered = loop.scratch.take() }
    let text = event.text
    if gzip == nil { return appendToBody(text.span) }
    let piece = event.deflated
    gzip?.join(piece)
    let bytes = piece.bytes
    appendToBody(bytes.span)
  }

  private func appendToBody(_ bytes: Span<UInt8>) {
    if isChunked { gathered.append(chunk: bytes) } else { gathered.append(bytes) }
    flushAtEndOfTurn()
  }

  /// A connection's context takes 32 KiB: events are short, and servers have many clients.
  private static let compression = DeflateSettings(windowBits: 12, memoryLevel: 5)

  /// An event was appended.
  func noteSent(byteCount: Int) {
    guard let observer = options.observer else { return }
    observer.didSend(byteCount: byteCount)
    let wasFull = isFull
    isFull = (try? hasRoom()) == false
    // Once for each time that it fills.
    if isFull && !wasFull { observer.didReachHighWatermark() }
  }

  func noteMissed() { options.observer?.didMiss() }

  public var queuedByteCount: Int { gathered.count + transport.queuedByteCount }

  public func flush() {
    sendGathered()
    guard isRoomAwaited else { return }
    isRoomAwaited = false
    if (try? hasRoom()) != false { writer.wake() }
  }

  private func sendGathered() {
    guard !gathered.isEmpty else { return transport.flush() }
    // A transport that has failed says so itself, at the next `hasRoom`.
    _ = try? transport.sendGathered(gathered.move(), backTo: loop.scratch)
    watchForStall()
  }

  /// Begins to watch whether the client takes anything when there is no room, and ends it when there is.
  private func watchForStall() {
    guard let limit = options.stallTimeout, case .open = state, (try? transport.hasRoom()) == false else {
      stallWatch?.stop()
      stallWatch = nil
      return
    }
    if stallWatch != nil { return }
    stallWatch = StallWatch(transport, limit: limit) { [weak self] in
      guard let self else { return }
      self.stallWatch = nil
      if (try? self.transport.hasRoom()) == false {
        Reached.mark("events.stalled")
        self.abort(EventSourceError.stalled(limit))
      } else {
        // Below the high mark there is room, of which nobody is told before the low one: a client that stalls in between would keep who waits for ever.
        self.wakeWriter()
      }
    }
  }

  // MARK: pings

  private func schedulePing() {
    guard let interval = options.ping, interval > .zero else { return }
    pingTimer = loop.schedule(after: interval) { [weak self] in
      guard let self, case .open = self.state else { return }
      // A client that does not read what there is needs no more.
      if (try? self.transport.hasRoom()) == true { self.sendPing() }
      self.schedulePing()
    }
  }

  private func sendPing() {
    Reached.mark("events.ping")
    sendLines(":\n\n")
  }

  /// Sends lines that are no event.
  func sendLines(_ lines: Bytes) {
    append(lines)
    flush()
  }

  // MARK: ending

  /// In a task that is cancelled already it closes as well; one that is cancelled while it waits cuts the stream.
  public func close() async throws {
    if Task.isCancelled { return try await closed() }
    try await withTaskCancellationHandler {
      try await closed()
    } onCancel: {
      abort(CancellationError())
    }
  }

  /// Ends it in good order, whether the task is cancelled or not: it takes no longer than the client takes what was sent.
  private func closed() async throws {
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
      loop.perform {
        self.closeWhenFlushed { error in
          if let error { continuation.resume(throwing: error) } else { continuation.resume() }
        }
      }
    }
  }

  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    end(after: nil, completion)
  }

  /// The client gets what was sent, and sees that it is not all: the body lacks its end.
  public func closeWhenFlushed(after failure: any Error, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    end(after: failure, completion)
  }

  /// - Parameter failure: What the stream is not whole for.
  func end(after failure: (any Error)?, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    switch state.close(completion) {
    case .begin: break
    case .wait: return
    case .done(let error): return completion(error)
    }
    if failure == nil { appendEnd() }
    flush()
    didEnd()
    let closeTimeout = options.closeTimeout
    let watch = StallWatch(transport, limit: closeTimeout) { self.abort(EventSourceError.stalled(closeTimeout)) }
    let didClose: @Sendable ((any Error)?) -> Void = { error in
      watch.stop()
      self.dropInput()
      self.transport.cancel(nil)
      self.finish(error)
    }
    // Without chunks only a connection that ends badly shows that something is missing.
    if let failure, !isChunked {
      transport.closeWhenFlushed(after: failure, didClose)
    } else {
      transport.closeWhenFlushed(didClose)
    }
  }

  private func appendEnd() {
    if gathered.capacity == 0 { gathered = loop.scratch.take() }
    if gzip != nil {
      var end = BytesBuilder(capacity: 64)
      gzip?.finish(to: &end)
      appendToBody(end.take().span)
    }
    if isChunked { gathered.appendLastChunk() }
  }

  /// The system answers bytes that nobody has read with a reset, which overtakes what was sent.
  private func dropInput() {
    do { while case .element = try transport.poll() {} } catch {}
  }

  public func abort(_ reason: any Error) {
    loop.perform {
      switch self.state {
      case .open:
        self.finish(reason)
        self.didEnd()
      case .closing: self.finish(reason)
      case .closed, .failed: return
      }
      self.transport.abort(reason)
    }
  }

  private func finish(_ error: (any Error)?) {
    switch state {
    case .open, .closing: for completion in state.end(error) { completion(error) }
    case .closed, .failed: break
    }
  }

  /// Nothing more is taken.
  private func didEnd() {
    gzip = nil
    options.observer?.didEnd()
    if let pingTimer { loop.cancelTimer(pingTimer) }
    pingTimer = nil
    stallWatch?.stop()
    stallWatch = nil
    transport.detachReader()
    transport.detachWriter()
    writer.wake()
    let isCancelled = if case .failed(is CancellationError) = state { true } else { false }
    let waiting = waitingForEnd
    waitingForEnd = []
    for continuation in waiting { continuation.resume(returning: isCancelled) }
  }

  /// Waits until the client has left, or the stream was closed.
  /// - Throws: `CancellationError` if the task is cancelled before that; the stream is cut then.
  public func waitUntilClosed() async throws {
    let isCancelled = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        loop.perform {
          if self.isOpen { self.waitingForEnd.append(continuation) } else { continuation.resume(returning: false) }
        }
      }
    } onCancel: {
      // What ended it before has the task cancelled too: then what was sent is on its way.
      loop.perform { if self.isOpen { self.abort(CancellationError()) } }
    }
    if isCancelled { try Task.checkCancellation() }
  }
}

extension EventStreamConnection: QueueLimiting {
  package func limitQueue(to count: Int) -> Int? { (transport as? any QueueLimiting)?.limitQueue(to: count) }
}

// MARK: what the transport tells

extension EventStreamConnection: Waker {
  /// For the transport: it has something to read. A client has nothing more to say; what comes is its end.
  public func wakeReader() {
    guard case .open = state else { return }
    do {
      while true {
        switch try transport.poll() {
        case .element: continue
        case .pending: return
        case .end: return clientEnded()
        }
      }
    } catch let error as any ReadingEndError where error.endsReadingOnly {
      clientEnded()
    } catch {
      clientIsLost(error)
    }
  }

  /// It may have ended its half only, and read on.
  private func clientEnded() {
    Reached.mark("events.clientEnded")
    closeWhenFlushed { _ in }
    cancelHandler()
  }

  private func clientIsLost(_ error: any Error) {
    Reached.mark("events.clientLost")
    finish(StreamError.closed)
    didEnd()
    transport.abort(error)
    cancelHandler()
  }

  /// For the transport: it has room.
  public func wakeWriter() {
    isRoomAwaited = false
    // What fails in sending has failed: there is nothing to read.
    if case .open = state {
      do { _ = try transport.hasRoom() } catch { return clientIsLost(error) }
    }
    if stallWatch != nil { watchForStall() }
    writer.wake()
  }
}
