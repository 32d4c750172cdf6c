import HTTPTypes
import SluiceHTTP
import SluiceStreams
import SluiceTLS
import SluiceZlib

/// One client of an event stream, as its server sees it: a writable stream of events.
///
/// ```swift
/// try await EventSource.serve("http://127.0.0.1:8000/feed") { events in
///   try await events.send("hello")
///   try await feed.map { ServerSentEvent($0) }.pipe(events)
/// }
/// ```
/// A client that is slow holds whoever writes: `send` returns when there is room for the next event. One that takes nothing at all for
/// `stallTimeout` is cut.
public final class EventStreamConnection: PolledWritableStream, @unchecked Sendable {
  // What is `let` may be read from everywhere; everything else is touched on the loop only.
  public typealias Input = ServerSentEvent

  public let loop: any Loop
  /// What the client asked for, with its path and headers.
  public let request: HTTPRequest
  private let transport: any PolledDuplexStream<Bytes, Bytes>
  private let isChunked: Bool
  private let options: EventSourceServerOptions
  private var state = State.open
  private var gathered = BytesBuilder()
  /// Compresses what is sent, where the client takes that.
  private var gzip: GzipWriter?
  /// Whether producers wait, as far as the observer knows.
  private var isFull = false
  private var writer = RoomWaiters.nobody
  /// Whether somebody was told that there is no room, and waits for it.
  private var isRoomAwaited = false
  package var servingTask: Task<Void, any Error>?
  private var pingTimer: LoopTimer?
  /// While the client leaves no room.
  private var stallWatch: StallWatch?
  private var waitingForEnd: [CheckedContinuation<Void, Never>] = []

  private enum State {
    case open
    /// What was sent is on its way, and the end behind it.
    case closing
    case closed
    case failed(any Error)
  }

  /// Takes over a transport on which the response head is on its way. On its loop only.
  init(
    over transport: any PolledDuplexStream<Bytes, Bytes>, request: HTTPRequest, isChunked: Bool, isCompressed: Bool,
    options: EventSourceServerOptions
  ) throws {
    gzip = isCompressed ? GzipWriter(Self.compression) : nil
    self.transport = transport
    self.request = request
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
    let scheme = transport is TLSStream ? "https" : "http"
    return "\(scheme)://\(request.authority ?? "")\(request.path ?? "/")"
  }

  /// The last event that the client has seen, as it says; nil at its first time.
  public var lastEventID: String? {
    request.headerFields.first { $0.name.canonicalName == "last-event-id" }?.value
  }

  /// Whether events can still be sent.
  public var isOpen: Bool {
    get async {
      await withCheckedContinuation { continuation in
        loop.perform { continuation.resume(returning: self.isOpenNow) }
      }
    }
  }

  private var isOpenNow: Bool {
    if case .open = state { true } else { false }
  }

  // MARK: sending

  /// Sends an event. Returns when there is room for the next one.
  /// - Throws: `EventFieldError` for a type or an id with a line end or NUL; `StreamError.closed` when the client has left.
  public func send(
    _ data: String, event: String? = nil, id: String? = nil, retry: Duration? = nil
  ) async throws {
    try await write(ServerSentEvent(data, event: event, id: id, retry: retry))
  }

  /// Sends a comment, which shows proxies and the client that the connection lives.
  public func ping() async throws {
    try await loop.run {
      _ = try self.hasRoom()
      self.sendPing()
    }
  }

  public func hasRoom() throws -> Bool {
    switch state {
    case .open:
      let hasRoom = try gathered.count < options.writeHighWatermark && transport.hasRoom()
      if !hasRoom { isRoomAwaited = true }
      return hasRoom
    case .closing, .closed: throw StreamError.closed
    case .failed(let error): throw error
    }
  }

  public func push(_ event: consuming ServerSentEvent) throws {
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

  public var needsFlush: Bool { !gathered.isEmpty || transport.needsFlush }
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
    try? transport.sendGathered(gathered.move(), backTo: loop.scratch)
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
      // There may be room again without a word of it.
      if (try? self.transport.hasRoom()) == false { self.abort(EventSourceError.stalled(limit)) }
    }
  }

  public func attachWriter(_ waker: any Waker) throws { try writer.attach(writer: waker) }
  public func detachWriter() { writer.detachWriter() }
  public func attachBroadcast(_ waker: any Waker) { writer.attach(broadcast: waker) }
  public func detachBroadcast(_ waker: any Waker) { writer.detach(broadcast: waker) }

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

  private func sendPing() { sendLines(":\n\n") }

  /// Sends lines that are no event.
  func sendLines(_ lines: Bytes) {
    append(lines)
    flush()
  }

  // MARK: ending

  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    switch state {
    case .closing, .closed: return completion(nil)
    case .failed(let error): return completion(error)
    case .open: break
    }
    if gathered.capacity == 0 { gathered = loop.scratch.take() }
    if gzip != nil {
      var end = BytesBuilder(capacity: 64)
      gzip?.finish(to: &end)
      appendToBody(end.take().span)
    }
    if isChunked { gathered.appendLastChunk() }
    flush()
    end(.closing)
    let watch = StallWatch(transport, limit: options.closeTimeout) { [closeTimeout = options.closeTimeout] in
      self.abort(EventSourceError.stalled(closeTimeout))
    }
    transport.closeWhenFlushed { error in
      watch.stop()
      if case .closing = self.state { self.state = .closed }
      self.transport.cancel(nil)
      completion(error)
    }
  }

  public func abort(_ reason: any Error) {
    loop.perform {
      switch self.state {
      case .open: self.end(.failed(reason))
      case .closing: self.state = .failed(reason)
      case .closed, .failed: return
      }
      self.transport.abort(reason)
    }
  }

  private func end(_ state: State) {
    self.state = state
    gzip = nil
    options.observer?.didEnd()
    if let pingTimer { loop.cancelTimer(pingTimer) }
    pingTimer = nil
    stallWatch?.stop()
    stallWatch = nil
    transport.detachReader()
    transport.detachWriter()
    writer.wake()
    let waiting = waitingForEnd
    waitingForEnd = []
    for continuation in waiting { continuation.resume() }
  }

  /// Waits until the client has left, or the stream was closed.
  /// - Throws: `CancellationError`; the stream is cut then.
  public func waitUntilClosed() async throws {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        loop.perform {
          if self.isOpenNow { self.waitingForEnd.append(continuation) } else { continuation.resume() }
        }
      }
    } onCancel: {
      abort(CancellationError())
    }
    try Task.checkCancellation()
  }
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
        case .end: throw StreamError.closed
        }
      }
    } catch {
      end(.failed(StreamError.closed))
      transport.abort(error)
    }
  }

  /// For the transport: it has room.
  public func wakeWriter() {
    isRoomAwaited = false
    if stallWatch != nil { watchForStall() }
    writer.wake()
  }
}
