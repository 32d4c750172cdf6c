/// A duplex stream that stands on one connection after another: when one is lost, the next goes on where it had stopped.
///
/// What is written goes to the connection that there is, and is kept until the system has taken it. When the connection is lost, what the
/// system had not taken is written to the next one, in order and once. What it had taken is not sent again: whether the peer got it
/// can't be known, so an element arrives at most once, and an acknowledgement of the peer's is what makes sure that it did.
/// While there is no connection, one element is accepted and the next write waits.
///
/// What is read is what one connection gives, to its end, and then what the next gives. A connection is lost when its reading ends, or
/// its writing fails, before this side has closed.
///
/// It ends as its connections do: when the peer has said that there is no more, and with an error that is final.
///
/// ```swift
/// try await bridge(StandardIO().messages(.lines), WebSocket.reconnecting("wss://example.com/feed"))
/// ```
public final class ReconnectingStream<Received: Sendable, Sent: Sendable>: PolledDuplexStream, ReaderHolding,
  WriterHolding,
  @unchecked Sendable
{
  // What is `let` may be read from everywhere; everything else is touched on the loop only.
  public typealias Output = Received
  public typealias Input = Sent
  public typealias Connection = any PolledDuplexStream<Output, Input>

  private let connections: any ReadableStream<Connection>
  public let loop: any Loop
  public let endsAsOne: Bool

  private var state = State.idle
  private var writeState = WriteState.open
  private var unsent: UnsentElements<Input>
  private var reader = ReaderSlot()
  package var writer = RoomWaiters.nobody
  /// Who reads sees the end of a connection first: what it gave is read before the next is made.
  private var reading = Reading.notYet
  /// What waits for `state` or `writeState` to change.
  private var waiting: [LoopWaiter] = []

  private enum State {
    case idle
    case connecting(Task<Void, Never>)
    case connected(Link)
    /// The connection can't be written to any more, and its reader has not come to its end.
    case ending(Link)
    case ended
    case failed(any Error)
  }

  /// One of the connections. It has an identity, which a stream need not have.
  private final class Link: Sendable {
    let connection: Connection
    private let counter: (any SentByteCounting)?

    init(_ connection: Connection) {
      self.connection = connection
      counter = connection as? any SentByteCounting
    }

    /// nil if the connection does not count what leaves, so that nothing that it has taken is sent again.
    var sentByteCount: Int? { counter?.sentByteCount }

    /// Where the next element begins on the wire.
    var place: Int? { sentByteCount.map { $0 + connection.queuedByteCount } }

    var hasFailed: Bool { (try? connection.hasRoom()) == nil }
  }

  private enum WriteState {
    case open
    /// `close` is at work: what is still to be sent may take another connection.
    case closing
    case closed
  }

  private enum Reading {
    case notYet
    case begun
    case cancelled
  }

  /// - Parameters:
  ///   - connections: Gives the first connection, and when that has been lost the next; its end is this stream's. All of them live on `loop`.
  ///   - resumePoint: Where what was not sent begins.
  ///   - endsAsOne: Whether closing a connection makes its peer end it: see `DuplexStream.endsAsOne`.
  public init(
    over connections: any ReadableStream<Connection>, resumingAt resumePoint: ResumePoint<Input>,
    endsAsOne: Bool = false, on loop: any Loop
  ) {
    self.connections = connections
    self.loop = loop
    self.endsAsOne = endsAsOne
    unsent = UnsentElements(resumingAt: resumePoint)
  }

  /// Makes the first connection, as the first read or write does otherwise.
  /// - Throws: the final error if there is none.
  public func open() async throws {
    try await withTaskExecutorPreference(loop) { try await openOnLoop() }
  }

  private func openOnLoop() async throws {
    while true {
      switch state {
      case .idle: connect()
      case .connecting: try await waitForChange()
      case .connected, .ending, .ended: return
      case .failed(let error): throw error
      }
    }
  }

  // MARK: reading

  public func poll() throws -> Polled<Output> {
    assertOnLoop()
    if case .notYet = reading { reading = .begun }
    while true {
      if case .cancelled = reading { return .end }
      switch state {
      case .idle: connect()
      case .connecting: return .pending
      case .connected(let link), .ending(let link):
        do {
          let next = try link.connection.poll()
          guard case .end = next else { return next }
          didEndReading(link, nil)
        } catch {
          didEndReading(link, error)
        }
      case .ended: return .end
      case .failed(let error): throw error
      }
    }
  }

  public func detach(_ element: Output) -> Output { link?.connection.detach(element) ?? element }

  @usableFromInline
  package func withReader<R>(_ body: (inout ReaderSlot) throws -> R) rethrows -> R { try body(&reader) }

  public func attachReader(_ waker: any Waker) throws {
    try reader.attach(waker)
    try? link?.connection.attachReader(self)
  }

  public func detachReader() {
    if reader.isTaken { link?.connection.detachReader() }
    reader.detach()
  }

  private func didEndReading(_ link: Link, _ error: (any Error)?) {
    guard isCurrent(link) else { return }
    if case .cancelled = reading { return }
    // After our own close an end is what was asked for, unless something is left to be sent.
    if case .open = writeState { return lose(link, error) }
    if isOwed(by: link) { return lose(link, error) }
    end(error.map { .failed($0) } ?? .ended)
  }

  public func cancel(_ reason: (any Error)?) {
    loop.perform { self.cancelOnLoop(reason) }
  }

  private func cancelOnLoop(_ reason: (any Error)?) {
    reading = .cancelled
    switch state {
    case .idle: if endsAsOne { end(.ended) }
    case .connecting(let task):
      if endsAsOne {
        task.cancel()
        end(.ended)
      }
    case .ending(let link): if endsAsOne { end(.ended) } else { lose(link, reason) }
    case .connected(let link):
      // Nobody writes to what is closed.
      if endsAsOne { writeState = .closed }
      link.connection.cancel(reason)
    case .ended, .failed: break
    }
    wakeAll()
  }

  // MARK: writing

  /// While there is no connection, there is room for one element.
  public func hasRoom() throws -> Bool {
    assertOnLoop()
    while true {
      guard case .open = writeState else { throw StreamError.closed }
      switch state {
      case .ended: throw StreamError.closed
      case .failed(let error): throw error
      case .idle, .connecting, .ending:
        if !unsent.hasQueued { return true }
        guard case .idle = state else { return false }
        connect()
      case .connected(let link):
        do { return try link.connection.hasRoom() } catch { didFailWriting(link, error) }
      }
    }
  }

  public func push(_ element: consuming Input) throws {
    assertOnLoop()
    _ = try hasRoom()
    unsent.append(element)
    guard case .connected(let link) = state else {
      if case .idle = state { connect() }
      return
    }
    if unsent.isWorthTrimming { unsent.trim(sent: link.sentByteCount ?? .max) }
    try pushQueued(to: link)
  }

  public var queuedByteCount: Int { (link?.connection.queuedByteCount ?? 0) + unsent.queuedByteCount }
  public var deliveredByteCount: Int? { link?.connection.deliveredByteCount }

  public func flush() { link?.connection.flush() }

  public func attachWriter(_ waker: any Waker) throws {
    try writer.attach(writer: waker)
    try? link?.connection.attachWriter(self)
  }

  public func detachWriter() {
    if writer.hasWriter { link?.connection.detachWriter() }
    writer.detachWriter()
  }

  /// Gives a connection what waits for it.
  /// - Throws: what is wrong with an element, which is dropped. A connection that has failed is seen to.
  private func pushQueued(to link: Link) throws {
    while let element = unsent.popQueued() {
      let start = link.place
      do { try push(element, to: link.connection) } catch {
        if !link.hasFailed { throw error }
        Reached.mark("reconnecting.putBack")
        unsent.putBack(element)
        return didFailWriting(link, error)
      }
      if let start, let end = link.place { unsent.didPush(element, from: start, to: end) }
    }
  }

  private func push(_ element: Input, to connection: some PolledDuplexStream<Output, Input>) throws {
    try connection.push(element)
  }

  private func isOwed(by link: Link) -> Bool { unsent.isOwed(sent: link.sentByteCount ?? .max) }

  private func didFailWriting(_ link: Link, _ error: any Error) {
    guard isCurrent(link) else { return }
    if case .begun = reading {
      Reached.mark("reconnecting.readsOnBehindFailedWrite")
      state = .ending(link)
      wakeAll()
    } else {
      lose(link, error)
    }
  }

  // MARK: ending

  /// Sends what is still to be sent, with another connection if this one is lost before, and ends this half. Nothing is connected for the
  /// sake of being closed.
  /// - Throws: the failure of a connection that was lost when everything had been handed over: whether it arrived is not known.
  public func close() async throws {
    try await close { try await $0.close() }
  }

  public func close(after failure: any Error) async throws {
    try await close { try await $0.close(after: failure) }
  }

  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    closeWhenFlushed(completion) { try await self.close() }
  }

  public func closeWhenFlushed(after failure: any Error, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    closeWhenFlushed(completion) { try await self.close(after: failure) }
  }

  private func closeWhenFlushed(
    _ completion: @escaping @Sendable ((any Error)?) -> Void, by close: @escaping @Sendable () async throws -> Void
  ) {
    beginClosing()
    Task(executorPreference: loop) {
      do { try await close() } catch { return completion(error) }
      completion(nil)
    }
  }

  private func beginClosing() {
    guard case .open = writeState else { return }
    writeState = .closing
    wakeAll()
  }

  /// The same, with a way of its own to end the last connection.
  package func close(_ endConnection: @escaping @Sendable (Connection) async throws -> Void) async throws {
    try await withTaskExecutorPreference(loop) { try await closeOnLoop(endConnection) }
  }

  private func closeOnLoop(_ endConnection: @Sendable (Connection) async throws -> Void) async throws {
    beginClosing()
    do {
      while true {
        switch state {
        // Whatever is written connects at once.
        case .idle: return end(.ended)
        case .connecting where unsent.isOwed: try await waitForChange()
        case .connecting(let task):
          task.cancel()
          return end(.ended)
        case .ending: try await waitForChange()
        case .connected(let link):
          do {
            try await endConnection(link.connection)
            if isCurrent(link) { writeState = .closed }
            return
          } catch {
            if Task.isCancelled { throw error }
            guard isCurrent(link) else { continue }
            guard case .closing = writeState, isOwed(by: link) else { throw error }
            Reached.mark("reconnecting.closeFailedOwing")
            didFailWriting(link, error)
          }
        case .ended: return
        case .failed(let error): throw error
        }
      }
    } catch {
      if Task.isCancelled { abortOnLoop(error) }
      throw error
    }
  }

  public func abort(_ reason: any Error) {
    loop.perform { self.abortOnLoop(reason) }
  }

  private func abortOnLoop(_ reason: any Error) {
    switch state {
    case .connecting(let task): task.cancel()
    case .connected(let link), .ending(let link):
      link.connection.abort(reason)
      link.connection.cancel(reason)
    case .idle: break
    case .ended, .failed: return
    }
    end(.failed(reason))
  }

  private func end(_ state: State) {
    self.state = state
    unsent.removeAll()
    connections.cancel(nil)
    wakeAll()
  }

  // MARK: connections

  /// The connection that there is, also while its reader has not come to its end.
  private var link: Link? {
    switch state {
    case .connected(let link), .ending(let link): link
    case .idle, .connecting, .ended, .failed: nil
    }
  }

  private func isCurrent(_ link: Link) -> Bool {
    switch state {
    case .connected(let current), .ending(let current): current === link
    case .idle, .connecting, .ended, .failed: false
    }
  }

  /// Takes back what a connection has not sent, and makes the next.
  private func lose(_ link: Link, _ error: (any Error)?) {
    if reader.isTaken { link.connection.detachReader() }
    if writer.hasWriter { link.connection.detachWriter() }
    let sent = link.sentByteCount
    unsent.takeBack(sent: sent ?? .max)
    Reached.mark("reconnecting.lost")
    // What is sent again must not leave here too. Otherwise the connection ends as it should.
    if unsent.isOwed || sent == nil {
      link.connection.abort(error ?? StreamError.aborted)
    } else {
      finish(link.connection)
    }
    connect()
  }

  /// Ends a connection that has no further use: a peer that has ended its half only would wait for the end of ours.
  private func finish(_ connection: Connection) {
    Task(executorPreference: loop) {
      await connection.closeLingering(stallTimeout: Lingering.sendingTime, orAbort: StreamError.aborted)
    }
  }

  private func connect() {
    let connections = connections
    state = .connecting(
      Task(executorPreference: loop) {
        let result: Result<Connection?, any Error>
        do { result = .success(try await connections.read()) } catch { result = .failure(error) }
        self.didConnect(result)
      })
    wakeAll()
  }

  private func didConnect(_ result: Result<Connection?, any Error>) {
    guard case .connecting = state else {
      Reached.mark("reconnecting.lateConnection")
      // Nobody waits for it any more.
      if case .success(let connection?) = result { connection.abort(StreamError.aborted) }
      return
    }
    switch result {
    case .success(let connection?): adopt(connection)
    case .success(nil): end(.ended)
    case .failure(let error): end(.failed(error))
    }
  }

  private func adopt(_ connection: Connection) {
    let link = Link(connection)
    state = .connected(link)
    if reader.isTaken { try? connection.attachReader(self) }
    if writer.hasWriter { try? connection.attachWriter(self) }
    if case .cancelled = reading { connection.cancel(nil) }
    // The beginning of a line alone waits for the rest.
    if unsent.isOwed {
      do { try pushQueued(to: link) } catch { abortOnLoop(error) }
    }
    wakeAll()
  }

  private func waitForChange() async throws {
    let waiter = LoopWaiter()
    waiting.append(waiter)
    defer { waiting.removeAll { $0 === waiter } }
    try await waiter.wait(on: loop)
  }

  private func wakeAll() {
    for waiter in waiting { waiter.wake() }
    tellReader()
    writer.wake()
  }
}

// MARK: what the connection tells

extension ReconnectingStream: Waker {
  public func wakeReader() { tellReader() }
  public func wakeWriter() { writer.wake() }
}
