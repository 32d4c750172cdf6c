import DequeModule
import HTTPTypes
import Logging
import SluiceStreams
import SluiceWebSocketProtocol
import Synchronization

/// A WebSocket in the browser's style: closures that are called with what happens, on the connection's loop.
///
/// ```swift
/// let ws = WebSocketCallbacks.connect("wss://example.com/feed")
/// ws.onOpen { ws.trySend("hello") }
/// ws.onMessage { message in print(message.text) }
/// ws.onClose { code, reason in print("closed", code, reason) }
/// ```
/// Handlers must not block: nothing else happens on the loop meanwhile. What happens before its handler is set is kept until then: messages stay in the
/// connection, whose peer waits when its buffers are full; of pings and pongs, which can't be held back, the latest 16 each are kept.
// Touched on the loop only, but for what is atomic or `let`.
@safe public final class WebSocketCallbacks: @unchecked Sendable {
  public let loop: any Loop
  private var state: State {
    didSet { if case .open(let ws) = state { unsafe socket = .passUnretained(ws) } else { socket = nil } }
  }
  /// That of `state` while it is open, to be asked for each message without being counted.
  private var socket: Unmanaged<WebSocket>?
  private var openHandler: (() -> Void)?
  private var messageHandler: ((Message) -> Void)? { didSet { handlerNumber &+= 1 } }
  /// Of those that `messageHandler` was.
  private var handlerNumber = 0
  private var errorHandler: ((any Error) -> Void)?
  private var closeHandler: ((CloseCode, String) -> Void)?
  private var drainHandler: (() -> Void)?
  private var pingHandler: ((Bytes) -> Void)?
  private var pongHandler: ((Bytes) -> Void)?
  /// A message that waits for its handler: nothing behind it is read.
  private var held: Message?
  /// What calls a handler takes it out first.
  @safe @exclusivity(unchecked) private var kept = Deque<Kept>()
  /// Whether pings or pongs were kept in the midst of reading, which are to be given to their handlers when that has come to its end.
  private var hasNewControls = false
  private var hadNoRoom = false
  private var isReading = false
  /// Whether it is open, and there was no handler to be told so. Not kept as the others are: few servers have that handler, and each connection would hold
  /// the memory of a queue.
  private var isOpenUntold = false
  /// While it is open.
  private var attendant: Attendant?
  /// Whether the connection is over, though what it has received may still be unread.
  private var isOver = false
  /// The connection while it is open, for other threads.
  private let shared = Mutex<WebSocket?>(nil)
  /// Bytes that wait for the connection to open, for other threads.
  private let queuedForOpen = Atomic<Int>(0)
  /// Bytes that other threads have given to `trySend` and that are on their way to the loop.
  private let handedOver = Atomic<Int>(0)
  /// The same with what each message costs on its way.
  private let handedOverCost = Atomic<Int>(0)
  /// Whether nothing can be sent any more: it is closed, or was told to close.
  private let isClosed = Atomic<Bool>(false)
  /// Whether the loop is to be told that another thread found no room, and does not know yet.
  private let isRefusalUnderWay = Atomic<Bool>(false)
  /// Whether a message could not be sent, for what is wrong with it: that is told once.
  private var hasToldOfMessage = false
  private let highWatermark: Int
  private var waitingForClose: [() -> Void] = []

  private enum State {
    /// What is to be sent at open, and its bytes.
    case connecting(Deque<Message>, Int)
    case open(WebSocket)
    case closed
  }

  /// What happened and had no handler.
  private enum Kept {
    case error(any Error)
    case close(CloseCode, String)
    case drain
    case ping(Bytes)
    case pong(Bytes)
  }

  /// Pings that are kept, and pongs: at most 2,000 bytes each.
  private static let maxKeptControls = 16

  private init(_ loop: any Loop, highWatermark: Int) {
    self.loop = loop
    self.highWatermark = highWatermark
    state = .connecting([], 0)
  }

  /// Takes over a connection, which nobody else reads from then on.
  public convenience init(_ ws: WebSocket) {
    self.init(ws.loop, highWatermark: ws.options.writeHighWatermark)
    loop.perform { self.didOpen(ws) }
  }

  /// Answers a request whose head another server has read, and takes its connection over, as `WebSocket.accept` does; `onOpen` or `onError` and `onClose`
  /// tell how that went. Messages that are sent before it is open leave when it is.
  ///
  /// ```swift
  /// let ws = WebSocketCallbacks.accept(request, over: connection, head: rest, protocols: ["chat"])
  /// ws.trySend("welcome")
  /// ws.onMessage { ws.trySend($0) }
  /// ```
  public static func accept(
    _ request: HTTPRequest, over transport: some PolledDuplexStream<Bytes, Bytes>, head: Bytes = Bytes(),
    isHTTP11: Bool = true, protocols: [String] = [], options: WebSocketHandshakeOptions = WebSocketHandshakeOptions()
  ) -> WebSocketCallbacks {
    opening(on: transport.loop, options.connection) {
      try await WebSocket.accept(
        request, over: transport, head: head, isHTTP11: isHTTP11, protocols: protocols, options: options)
    }
  }

  package static func opening(
    on loop: any Loop, _ options: WebSocketOptions, _ open: @escaping @Sendable () async throws -> WebSocket
  ) -> WebSocketCallbacks {
    let callbacks = WebSocketCallbacks(loop, highWatermark: options.writeHighWatermark)
    Task(executorPreference: loop) {
      do { callbacks.didOpen(try await open()) } catch { callbacks.didEnd(.abnormal, "", error) }
    }
    return callbacks
  }

  // MARK: handlers

  /// The connection is open.
  public func onOpen(_ handler: @escaping @Sendable () -> Void) { set { $0.openHandler = handler } }

  public func onMessage(_ handler: @escaping @Sendable (Message) -> Void) { set { $0.messageHandler = handler } }

  /// The connection could not be opened, was lost, or its peer broke the protocol: a close follows. Or a message could not be sent for what is
  /// wrong with it, which is told of the first one.
  public func onError(_ handler: @escaping @Sendable (any Error) -> Void) { set { $0.errorHandler = handler } }

  /// The last event: the peer's code and reason, 1005 without one, 1006 if it is gone without a Close.
  public func onClose(_ handler: @escaping @Sendable (CloseCode, String) -> Void) { set { $0.closeHandler = handler } }

  /// There is room again, after a `trySend` that found none or filled it.
  public func onDrain(_ handler: @escaping @Sendable () -> Void) { set { $0.drainHandler = handler } }

  /// The peer's ping, which is answered already. Of those that came before there was a handler, the latest 16 are kept for it.
  public func onPing(_ handler: @escaping @Sendable (Bytes) -> Void) { set { $0.pingHandler = handler } }

  /// A pong, asked for or not; as for pings, the latest 16 are kept for the handler.
  public func onPong(_ handler: @escaping @Sendable (Bytes) -> Void) { set { $0.pongHandler = handler } }

  private func set(_ change: @escaping @Sendable (WebSocketCallbacks) -> Void) {
    loop.perform {
      change(self)
      self.deliver()
      // What was kept is delivered, and nothing more comes: a handler may hold this object.
      if case .closed = self.state { self.forgetHandlersOfOpen() }
    }
  }

  private func forgetHandlersOfOpen() {
    (messageHandler, drainHandler, pingHandler, pongHandler) = (nil, nil, nil, nil)
  }

  // MARK: sending

  /// Bytes that were sent and have not left yet.
  public var bufferedAmount: Int { buffered + handedOver.load(ordering: .relaxed) }

  /// Of these, what the loop knows of.
  private var buffered: Int {
    shared.withLock { $0 }?.bufferedAmount ?? queuedForOpen.load(ordering: .relaxed)
  }

  /// Sends a message without waiting, from any thread.
  /// - Returns: false if it was not sent: there is no room, until `onDrain`; or the connection is closed, or `close` was called. A refusal costs
  ///   nothing: it may be tried again and again. On the loop also false for a message that can't be sent, as binary in hixie-76; the first of
  ///   these is told to `onError`.
  @discardableResult
  public func trySend(_ message: Message) -> Bool {
    if isClosed.load(ordering: .relaxed) { return false }
    guard loop.isCurrent else { return handOver(message) }
    // It calls nobody who could let go of the connection meanwhile.
    if let socket = unsafe socket, unsafe socket._withUnsafeGuaranteedRef({ $0.frameShort(message) }) { return true }
    return trySendOnLoop(message)
  }

  @inline(never)
  private func trySendOnLoop(_ message: Message) -> Bool {
    if case .open(let ws) = state {
      if (try? ws.hasRoom()) == true { return push(message, to: ws) }
    } else if hasRoom {
      return send(message)
    }
    noteNoRoom()
    return false
  }

  private func handOver(_ message: Message) -> Bool {
    guard buffered + handedOverCost.load(ordering: .relaxed) < highWatermark else {
      // One word to the loop is on its way at a time.
      if !isRefusalUnderWay.exchange(true, ordering: .acquiringAndReleasing) {
        loop.execute {
          self.isRefusalUnderWay.store(false, ordering: .releasing)
          self.noteNoRoom()
        }
      }
      return false
    }
    let count = message.bytes.count
    let cost = heldCost(ofByteCount: count)
    handedOver.add(count, ordering: .relaxed)
    handedOverCost.add(cost, ordering: .relaxed)
    loop.execute {
      _ = self.send(message)
      // It counts in one of the two places at least.
      if case .open(let ws) = self.state { ws.publishBufferedAmount() }
      self.handedOver.subtract(count, ordering: .relaxed)
      self.handedOverCost.subtract(cost, ordering: .relaxed)
    }
    return true
  }

  @discardableResult
  public func trySend(_ text: String) -> Bool { trySend(Message(text)) }

  @discardableResult
  public func trySend(_ bytes: Bytes) -> Bool { trySend(.binary(bytes)) }

  private var hasRoom: Bool {
    switch state {
    case .closed: false
    case .connecting(_, let bytes): bytes < highWatermark
    case .open(let ws): (try? ws.hasRoom()) == true
    }
  }

  /// - Returns: whether it is on its way.
  private func send(_ message: Message) -> Bool {
    switch state {
    case .closed: return false
    case .connecting(var queue, let bytes):
      queue.append(message)
      let queued = bytes + heldCost(ofByteCount: message.bytes.count)
      state = .connecting(queue, queued)
      queuedForOpen.store(queued, ordering: .relaxed)
      return true
    case .open(let ws): return push(message, to: ws)
    }
  }

  private func push(_ message: Message, to ws: WebSocket) -> Bool {
    do { try ws.frame(message) } catch {
      // That the connection has ended is told by its end.
      guard !hasToldOfMessage, (try? ws.hasRoomForPart()) != nil else { return false }
      hasToldOfMessage = true
      keep(.error(error))
      return false
    }
    if (try? ws.hasRoom()) != true { noteNoRoom() }
    return true
  }

  private func noteNoRoom() {
    if hadNoRoom { return }
    hadNoRoom = true
    // What is gathered may leave at once; nobody would tell of that.
    loop.execute {
      if case .open(let ws) = self.state { ws.flush() }
      self.didGetRoom()
    }
  }

  fileprivate func didGetRoom() {
    guard hadNoRoom, case .open = state, hasRoom else { return }
    hadNoRoom = false
    keep(.drain)
  }

  /// Sends a ping; `onPong` tells of the answer.
  public func ping(_ payload: Bytes = Bytes()) {
    loop.perform {
      guard case .open(let ws) = self.state, payload.count <= 125, ws.opening.version.hasOpcodes,
        ws.isOpen
      else { return }
      ws.sendControl(.ping, payload)
    }
  }

  /// Begins to close; `onClose` tells when it is done.
  /// - Throws: `WebSocketError.invalidCloseCode`, `.closeReasonTooLong`.
  public func close(_ code: CloseCode = .normal, _ reason: String = "") throws {
    try code.checkFromCaller(reason: reason)
    isClosed.store(true, ordering: .relaxed)
    loop.perform {
      switch self.state {
      case .open(let ws): ws.close(as: code, reason) { _ in }
      case .connecting: self.didEnd(.abnormal, "", nil)
      case .closed: break
      }
    }
  }

  /// Waits for the close. Cancelling the waiting task closes with 1001.
  public func waitUntilClosed() async {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        loop.perform { self.whenClosed { continuation.resume() } }
      }
    } onCancel: {
      loop.perform { if case .open(let ws) = self.state { ws.endForShutdown() } }
    }
  }

  /// Has a closure called when the connection is closed. On the loop.
  package func whenClosed(_ done: @escaping () -> Void) {
    if case .closed = state { return done() }
    if isOver { done() } else { waitingForClose.append(done) }
  }

  // MARK: what happens

  private func didOpen(_ ws: WebSocket) {
    guard case .connecting(let queue, _) = state else { return ws.abort(StreamError.aborted) }
    do { try attach(to: ws) } catch { return didEnd(.abnormal, "", error) }
    state = .open(ws)
    ws.controls.observer = attendant
    // Before whatever a handler sends.
    for message in queue { _ = push(message, to: ws) }
    ws.publishBufferedAmount()
    shared.withLock { $0 = ws }
    queuedForOpen.store(0, ordering: .relaxed)
    isOpenUntold = true
    deliver()
  }

  /// - Throws: `StreamError.concurrentRead` or `.concurrentWrite` if somebody else uses the connection.
  private func attach(to ws: WebSocket) throws {
    let attendant = Attendant(self)
    try ws.attachReader(Reading(self))
    do { try ws.attachWriter(attendant) } catch {
      ws.detachReader()
      throw error
    }
    self.attendant = attendant
  }

  private func keep(_ event: Kept) {
    kept.append(event)
    deliver()
  }

  /// Gives to their handlers what is kept for them, in order.
  private func deliver() {
    deliverKept()
    if case .open = state { read() }
  }

  private func deliverKept() {
    if isOpenUntold, let handler = openHandler {
      isOpenUntold = false
      openHandler = nil
      handler()
    }
    while let index = kept.firstIndex(where: hasHandler) { give(kept.remove(at: index)) }
  }

  private func hasHandler(for event: Kept) -> Bool {
    switch event {
    // Whoever looks at closes alone has no use for the error before.
    case .error: errorHandler != nil || closeHandler != nil
    case .close: closeHandler != nil
    // Nobody waits for a drain who has not asked for it.
    case .drain: true
    case .ping: pingHandler != nil
    case .pong: pongHandler != nil
    }
  }

  /// Keeps a ping or pong until the reading has come to its end, or there is a handler for it.
  private func keepControl(_ event: Kept, isSameKind: (Kept) -> Bool) {
    if !hasHandler(for: event), kept.count(where: isSameKind) >= Self.maxKeptControls,
      let oldest = kept.firstIndex(where: isSameKind)
    {
      kept.remove(at: oldest)
    }
    // Not delivered from here: this is in the midst of reading.
    kept.append(event)
    hasNewControls = true
  }

  private func give(_ event: Kept) {
    switch event {
    case .error(let error): errorHandler?(error)
    case .drain: drainHandler?()
    case .ping(let payload): pingHandler?(payload)
    case .pong(let payload): pongHandler?(payload)
    case .close(let code, let reason):
      let handler = closeHandler
      // They may hold this object, as handlers do.
      (openHandler, errorHandler, closeHandler) = (nil, nil, nil)
      handler?(code, reason)
    }
  }

  fileprivate func read() {
    // A handler may have asked for more from inside.
    guard !isReading else { return }
    isReading = true
    defer { isReading = false }
    guard case .open(let ws) = state else { return }
    while isOpen {
      if let message = held {
        guard let messageHandler else { return ws.foreseeEnd() }
        held = nil
        messageHandler(message)
        continue
      }
      do {
        let next = try ws.poll()
        deliverControls()
        switch next {
        case .element(let message):
          if let messageHandler {
            try give(message, andBufferedOf: ws, to: messageHandler)
          } else {
            held = ws.detach(message)
          }
        case .pending: return
        case .end: didEnd(ws.received?.code ?? .noStatus, ws.received?.reason ?? "", nil)
        }
      } catch WebSocketError.closed(let code, let reason) {
        deliverControls()
        didEnd(code, reason, nil)
      } catch {
        deliverControls()
        didEnd(ws.received?.code ?? .abnormal, ws.received?.reason ?? "", error)
      }
    }
  }

  /// Gives a handler a message and those that came together with it, as long as it is the one that is set: it is not counted for each of them.
  private func give(_ message: Message, andBufferedOf ws: WebSocket, to handler: (Message) -> Void) throws {
    let number = handlerNumber
    handler(message)
    while isOpen, handlerNumber == number, let message = try ws.takeBuffered() {
      deliverControls()
      handler(message)
    }
  }

  private var isOpen: Bool {
    if case .open = state { true } else { false }
  }

  /// Pings and pongs that were found on the way came before what was read.
  private func deliverControls() {
    guard hasNewControls else { return }
    hasNewControls = false
    deliverKept()
  }

  private func didEnd(_ code: CloseCode, _ reason: String, _ error: (any Error)?) {
    if case .closed = state { return }
    if case .open(let ws) = state {
      ws.detachReader()
      ws.detachWriter()
      ws.heldControls?.observer = nil
    }
    state = .closed
    attendant = nil
    isClosed.store(true, ordering: .relaxed)
    forgetHandlersOfOpen()
    if error == nil { errorHandler = nil }
    shared.withLock { $0 = nil }
    queuedForOpen.store(0, ordering: .relaxed)
    if let error { keep(.error(error)) }
    keep(.close(code, reason))
    tellClosed()
  }

  private func tellClosed() {
    let waiting = waitingForClose
    waitingForClose = []
    for done in waiting { done() }
  }

  /// Tells of what can be read. It keeps the callbacks alive while the connection is open.
  private final class Reading: SingleWaker {
    private let callbacks: WebSocketCallbacks
    init(_ callbacks: WebSocketCallbacks) { self.callbacks = callbacks }
    func wake() { callbacks.read() }
  }

  /// Tells of everything else, and keeps them alive in the same way.
  private final class Attendant: SingleWaker, ControlObserver {
    private let callbacks: WebSocketCallbacks
    init(_ callbacks: WebSocketCallbacks) { self.callbacks = callbacks }
    func wake() { callbacks.didGetRoom() }
    func connectionIsOver() { callbacks.connectionIsOver() }
    func didReceivePing(_ payload: Bytes) { callbacks.didReceivePing(payload) }
    func didReceivePong(_ payload: Bytes) { callbacks.didReceivePong(payload) }
  }
}

// These come in the midst of reading: their handlers, which may do anything, are called when that has come to its end.
extension WebSocketCallbacks {
  /// Who waits for the close does not wait for a handler of messages that are unread. This comes in the midst of the closing.
  fileprivate func connectionIsOver() {
    isClosed.store(true, ordering: .relaxed)
    isOver = true
    if !waitingForClose.isEmpty { loop.execute { self.tellClosed() } }
  }

  fileprivate func didReceivePing(_ payload: Bytes) {
    keepControl(.ping(payload.compacted())) { if case .ping = $0 { true } else { false } }
  }

  fileprivate func didReceivePong(_ payload: Bytes) {
    keepControl(.pong(payload.compacted())) { if case .pong = $0 { true } else { false } }
  }
}
