import DequeModule
import SluiceStreams

/// Connections in memory, with the faults of real ones: delay, bytes cut anywhere, a stall, a reset.
public struct SimulatedNetwork: Sendable {
  public let loop: SimulatedLoop
  /// How long bytes are under way.
  public var delay = Duration.zero
  /// Bytes are delivered in pieces of at most this size.
  public var pieceSize = Int.max
  /// Bytes that are under way or unread before the sender must wait: what the kernel's buffers hold.
  public var window = 64 << 10

  public init(loop: SimulatedLoop) { self.loop = loop }

  /// Two ends of a connection. On the loop only.
  public func connection() -> (SimulatedStream, SimulatedStream) {
    let there = SimulatedChannel(network: self)
    let back = SimulatedChannel(network: self)
    return (SimulatedStream(incoming: back, outgoing: there), SimulatedStream(incoming: there, outgoing: back))
  }
}

/// One direction of a simulated connection.
private final class SimulatedChannel: @unchecked Sendable {  // touched on its loop only
  let network: SimulatedNetwork
  var arrived = Deque<Bytes>()
  /// Bytes under way or unread.
  var outstanding = 0
  /// Bytes that were read.
  var taken = 0
  var end: Result<Void, any Error>?
  var isStalled = false
  var onArrival: (() -> Void)?
  var onRoom: (() -> Void)?
  var onRefusal: ((any Error) -> Void)?

  init(network: SimulatedNetwork) { self.network = network }

  var room: Int { isStalled ? 0 : max(network.window - outstanding, 0) }

  func send(_ bytes: Bytes) {
    outstanding += bytes.count
    var rest = bytes
    while !rest.isEmpty {
      let piece = rest.prefix(network.pieceSize)
      rest = rest.dropFirst(piece.count)
      later {
        if case .failure = self.end { return }
        self.arrived.append(piece)
        self.onArrival?()
      }
    }
  }

  /// - Parameter end: What the reader finds behind all that was sent.
  func finish(_ end: Result<Void, any Error> = .success(())) {
    later {
      if self.end == nil { self.end = end }
      self.onArrival?()
    }
  }

  /// The other end writes to nobody.
  func refuse(_ error: any Error) {
    later {
      if self.end == nil { self.end = .failure(error) }
      self.onRefusal?(error)
      self.onArrival?()
    }
  }

  func reset(_ error: any Error) {
    later {
      self.arrived.removeAll()
      self.end = .failure(error)
      self.onArrival?()
      self.onRoom?()
    }
  }

  private func later(_ work: @escaping @Sendable () -> Void) {
    _ = network.loop.schedule(after: network.delay, work)
  }
}

/// An end of a simulated connection: behaves as a TCP socket does.
public final class SimulatedStream: PolledDuplexStream, ReaderHolding, WriterHolding, GatheringSink,
  @unchecked Sendable
{
  // touched on its loop only
  public typealias Output = Bytes
  public typealias Input = Bytes

  private let incoming: SimulatedChannel
  private let outgoing: SimulatedChannel
  private var reader = ReaderSlot()
  package var writer = RoomWaiters.nobody
  private var queue = ByteQueue()
  private var watermark = Watermark(high: 16 << 10)
  private var sentBytes = 0
  private var readFailure: (any Error)?
  private var sendFailure: (any Error)?
  private var inserted: Bytes?
  private var isCancelled = false
  private var endsWithReset = false
  private var lingering: Lingering?
  /// Whether nothing of this end is left.
  private var isGone = false
  private var writeState = WriteHalf.open
  @usableFromInline package var isFlushScheduled = false
  public var highWatermark: Int { watermark.high }

  fileprivate init(incoming: SimulatedChannel, outgoing: SimulatedChannel) {
    self.incoming = incoming
    self.outgoing = outgoing
    incoming.onArrival = { [weak self] in self?.didArrive() }
    incoming.onRefusal = { [weak self] in self?.wasRefused($0) }
    outgoing.onRoom = { [weak self] in self?.didGetRoom() }
  }

  public var loop: any Loop { incoming.network.loop }

  /// Bytes that this end has sent and the other has not read, and those that wait to be sent.
  public var unreadByPeer: Int { outgoing.outstanding + queue.count }

  public var deliveredByteCount: Int? { outgoing.taken }

  /// The peer's kernel takes nothing until `isStalled` is false again.
  public func stall(_ isStalled: Bool) {
    outgoing.isStalled = isStalled
    if !isStalled { didGetRoom() }
  }

  /// What stands between the ends gives up: what is queued here is lost, and the peer finds a good end behind what had left, at any byte.
  package func cut() {
    queue.removeAll()
    closeWhenFlushed { _ in }
  }

  /// The next send fails, and those behind it; the reading hears of it only five minutes later.
  package func failSends(_ error: any Error) { sendFailure = error }

  /// When sending has failed, on the loop's clock.
  package private(set) var sendFailureTime: Duration?

  private func didFailToSend(_ error: any Error) {
    sendFailureTime = loop.now
    fail(error)
    lingerIfDone()
    _ = loop.schedule(after: .seconds(300)) { [weak self] in
      guard let self, !self.isGone else { return }
      if self.readFailure == nil { self.readFailure = error }
      self.tellReader()
    }
  }

  /// Somebody between the ends puts something behind what is sent next, in one piece with it.
  package func insert(_ bytes: Bytes) { inserted = bytes }

  /// Wakes who waits here, though nothing has happened: a wake is a hint.
  package func wakeForNothing() {
    tellReader()
    writer.wake()
  }

  public func poll() throws -> Polled<Bytes> {
    if let readFailure { throw readFailure }
    if isCancelled { return .end }
    if let chunk = takeReceived() { return .element(chunk) }
    switch incoming.end {
    case nil: return .pending
    case .success: return .end
    case .failure(let error): throw error
    }
  }

  public var isDry: Bool { incoming.arrived.isEmpty && incoming.end == nil && readFailure == nil && !isCancelled }

  private func didArrive() {
    if case .failure(let error) = incoming.end { wasRefused(error) }
    tellReader()
    if lingering != nil { dropReceived() }
    resetIfGone()
  }

  /// As a system does: what comes for a connection that is closed in both directions is answered by a reset. What has arrived at the other end
  /// before can still be read there.
  private func resetIfGone() {
    guard isGone, !incoming.arrived.isEmpty else { return }
    incoming.arrived.removeAll()
    outgoing.refuse(ConnectionReset())
  }

  /// As a socket's stream does, before the system closes the connection.
  private func lingerIfDone() {
    if isCancelled, sendFailure != nil, case .failed = writeState, !isGone {
      isGone = true
      outgoing.reset(ConnectionReset())
      return
    }
    guard isCancelled, case .closed = writeState, lingering == nil, !isGone else { return }
    if endsWithReset {
      isGone = true
      return resetIfGone()
    }
    lingering = Lingering(self) { self.endLingering() }
    dropReceived()
  }

  private func dropReceived() {
    while takeReceived() != nil {}
    if incoming.end != nil { endLingering() }
  }

  private func endLingering() {
    isGone = true
    let ended = lingering
    lingering = nil
    ended?.end()
    resetIfGone()
  }

  private func takeReceived() -> Bytes? {
    guard let chunk = incoming.arrived.popFirst() else { return nil }
    incoming.outstanding -= chunk.count
    incoming.taken += chunk.count
    incoming.onRoom?()
    return chunk
  }

  @usableFromInline
  package func withReader<R>(_ body: (inout ReaderSlot) throws -> R) rethrows -> R { try body(&reader) }

  public func cancel(_ reason: (any Error)?) {
    loop.perform {
      self.isCancelled = true
      self.tellReader()
      self.lingerIfDone()
    }
  }

  public func hasRoom() throws -> Bool {
    guard case .open = writeState else { throw writeState.refusal }
    return watermark.hasRoom(queued: queue.count)
  }

  public var queuedByteCount: Int { queue.count }

  public func push(_ bytes: consuming Bytes) throws {
    guard case .open = writeState else {
      _ = try hasRoom()
      return
    }
    queue.append(bytes)
    flushAtEndOfTurn()
  }

  public func flush() {
    if let sendFailure, !queue.isEmpty { return didFailToSend(sendFailure) }
    while let first = queue.front(limit: 1).first, outgoing.room > 0 {
      let part = first.prefix(outgoing.room)
      // What is in memory that the sender uses again must not change under way.
      outgoing.send(Bytes(copying: part.span).followed(by: inserted.take() ?? Bytes()))
      queue.dropFirst(part.count)
      sentBytes += part.count
    }
    queue.settle()
    if watermark.isReached(queued: queue.count) { writer.wake() }
    if queue.isEmpty, case .closing = writeState {
      let waiting = writeState.end(nil)
      if endsWithReset {
        if readFailure == nil { readFailure = StreamError.aborted }
        outgoing.finish(.failure(ConnectionReset()))
        tellReader()
      } else {
        outgoing.finish()
      }
      for completion in waiting { completion(nil) }
      lingerIfDone()
    }
  }

  private func didGetRoom() { flush() }

  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    switch writeState.close(completion) {
    case .begin:
      writer.wake()
      flush()
    case .wait: break
    case .done(let error): completion(error)
    }
  }

  /// As TCP: a reset, when the peer has everything.
  public func closeWhenFlushed(after failure: any Error, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    if case .open = writeState { endsWithReset = true }
    closeWhenFlushed(completion)
  }

  public func abort(_ reason: any Error) {
    loop.perform {
      if self.lingering != nil { return self.endLingering() }
      if self.isGone { return }
      if self.readFailure == nil { self.readFailure = reason }
      self.fail(reason)
      self.outgoing.reset(ConnectionReset())
      self.tellReader()
    }
  }

  private func wasRefused(_ error: any Error) {
    switch writeState {
    case .open, .closing: fail(error)
    case .closed, .failed: break
    }
  }

  private func fail(_ error: any Error) {
    let waiting = writeState.end(error)
    queue.removeAll()
    for completion in waiting { completion(error) }
    writer.wake()
  }
}

extension SimulatedStream: LingeringConnection {
  package func whenGone(_ completion: @escaping @Sendable () -> Void) {
    if let lingering { lingering.whenEnded(completion) } else { completion() }
  }
}

extension SimulatedStream: PeerEndWatching {
  package var hasPeerEnded: Bool { incoming.end != nil }
}

extension SimulatedStream: SentByteCounting {
  public var sentByteCount: Int? { sentBytes }
}

/// What the other end sees of an abort.
public struct ConnectionReset: Error {
  public init() {}
}
