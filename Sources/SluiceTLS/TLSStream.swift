import CSluiceOpenSSL
import SluiceStreams

/// A byte stream inside TLS, over any other byte stream that lives on a loop: a socket, a tunnel through a proxy, another TLS.
///
/// Reading ends with nil when the peer said so (close_notify), and throws `TLSError.truncated` when its half ended without
/// it. The two halves end independently. While it is idle it holds no buffers.
public final class TLSStream: PolledDuplexStream, ReaderHolding, WriterHolding, GatheringSink, @unchecked Sendable {
  // `transport` and `loop` never change; everything else is touched on the loop only.
  public typealias Output = Bytes
  public typealias Input = Bytes
  public typealias Transport = any PolledDuplexStream<Bytes, Bytes>

  public let loop: any Loop
  private let transport: Transport
  private let engine: TLSEngine
  private let buffers: PlainBuffers
  private var readState = ReadState.open
  private var writeState = WriteState.open
  private var reader = ReaderSlot()
  package var writer = RoomWaiters.nobody
  /// Whether somebody was told that there is no room, and waits for it.
  private var isRoomAwaited = false
  @usableFromInline package var isFlushScheduled = false

  private enum ReadState {
    case open
    /// What came before is decrypted, and to be read first.
    case failing(any Error)
    /// By the peer's close_notify.
    case ended
    /// By this side.
    case cancelled
    case failed(any Error)
  }

  private enum WriteState {
    case open
    // Both tell whether the peer misses something if what is queued, or close_notify, does not arrive.
    case closed(isOwedMore: Bool)
    case failed(any Error, isOwedMore: Bool)
  }

  /// Bytes of a record's plain text at most (RFC 8446 §5.1).
  private static let maxRecord = 16 << 10
  /// Bytes that were sent in answer to what was read, and may not have left.
  private var answerBytes = 0
  /// Whether some of them wait in the engine.
  private var hasUnsentAnswers = false
  private static let maxAnswerBytes = 16 << 10
  /// Encrypted bytes that may be gathered before a write waits.
  private static let highWatermark = 64 << 10

  /// Takes over a transport on which the handshake is done, but for what the engine still has to send. On its loop only.
  init(_ engine: TLSEngine, over transport: Transport) throws {
    self.engine = engine
    self.transport = transport
    loop = transport.loop
    buffers = transport.loop.locals.value { PlainBuffers() }
    try transport.attachReader(self)
    try transport.attachWriter(self)
    // What ends the handshake leaves with the first data, if there is some in this turn: one packet, one wake of the peer.
    if engine.output.capacity > 0 || engine.unsentByteCount > 0 { flushAtEndOfTurn() }
  }

  /// What the handshake settled.
  public var info: TLSInfo {
    get async {
      if loop.isCurrent { return engine.info() }
      return await withCheckedContinuation { continuation in
        loop.execute { continuation.resume(returning: self.engine.info()) }
      }
    }
  }

  /// Encrypts with new keys from here on, and asks the peer to do the same (RFC 8446 §4.6.3).
  /// - Throws: `TLSError.protocol` in TLS 1.2, which can't; `StreamError.closed`, or what the stream failed with.
  public func updateKeys() async throws {
    try await loop.run {
      guard case .open = self.writeState else {
        _ = try self.hasRoom()
        return
      }
      try self.engine.updateKeys()
      try self.sendOutput()
    }
  }

  // MARK: reading

  public func poll() throws -> Polled<Bytes> {
    assertOnLoop()
    while true {
      switch readState {
      case .open: break
      case .failing(let error):
        fail(error)
        continue
      case .ended, .cancelled: return .end
      case .failed(let error): throw error
      }
      do {
        if let plain = try decrypt() { return .element(plain) }
        guard case .open = readState else { continue }
        guard sendAnswers() else { return .pending }
        switch try transport.poll() {
        case .element(let bytes): engine.feed(bytes)
        case .pending: return .pending
        case .end:
          Reached.mark("tls.truncated")
          truncate()
        }
      } catch {
        fail(error)
      }
    }
  }

  /// The peer has ended its half without close_notify. Nobody knows whether that is all; but it may still read.
  private func truncate() {
    readState = .failed(TLSError.truncated)
    releaseIfDone()
  }

  public var isDry: Bool {
    guard case .open = readState, !engine.hasInput, !hasUnsentAnswers else { return false }
    return answerBytes <= Self.maxAnswerBytes && transport.isDry
  }

  /// Sends what the protocol itself answers to what was read, such as a KeyUpdate (RFC 8446 §4.6.3).
  /// - Returns: false if reading has to wait: a peer that asks and asks, and does not read the answers, is not read either.
  private func sendAnswers() -> Bool {
    if answerBytes == 0 { return true }
    guard case .open = writeState else {
      // Nothing follows close_notify.
      if hasUnsentAnswers { _ = engine.takeOutput() }
      hasUnsentAnswers = false
      answerBytes = 0
      return true
    }
    if hasUnsentAnswers {
      Reached.mark("tls.answer")
      hasUnsentAnswers = false
      // A transport that has failed says so itself, at the next `hasRoom`. What it has received can still be read.
      try? sendOutput()
    }
    if (try? transport.hasRoom()) != false { answerBytes = 0 }
    return answerBytes <= Self.maxAnswerBytes
  }

  /// Takes note of what the engine has answered. What was written is not counted: two peers that both write much must read meanwhile, or each would wait for
  /// the other to read.
  /// - Parameter count: Bytes that the engine has more than before. Fewer where the system's records took over meanwhile what there was.
  private func noteAnswers(_ count: Int) {
    guard count > 0 else { return }
    hasUnsentAnswers = true
    answerBytes += count
  }

  /// What the engine can decrypt of what it has.
  /// - Returns: nil if it needs more.
  private func decrypt() throws -> Bytes? {
    guard engine.hasInput else { return nil }
    buffers.prepare(room: Self.maxRecord)
    let start = buffers.plain.count
    let unsent = engine.unsentByteCount
    defer { noteAnswers(engine.unsentByteCount - unsent) }
    do {
      reading: while buffers.plain.capacity - buffers.plain.count >= Self.maxRecord {
        switch try engine.read(into: &buffers.plain, upTo: Self.maxRecord) {
        case .done where engine.hasInput: continue
        case .done: break reading
        case .wantsInput: break reading
        case .closed:
          readState = .ended
          releaseIfDone()
          break reading
        }
      }
    } catch {
      if buffers.plain.count == start { throw error }
      Reached.mark("tls.failsBehindData")
      readState = .failing(error)
    }
    let all = buffers.plain.lend()
    return all.count == start ? nil : all[(all.startIndex + start)...]
  }

  @usableFromInline
  package func withReader<R>(_ body: (inout ReaderSlot) throws -> R) rethrows -> R { try body(&reader) }

  public func cancel(_ reason: (any Error)?) {
    loop.perform {
      switch self.readState {
      case .open, .failing: self.readState = .cancelled
      case .ended, .cancelled, .failed: break
      }
      self.transport.cancel(reason)
      self.tellReader()
      self.releaseIfDone()
    }
  }

  // MARK: writing

  public func hasRoom() throws -> Bool {
    assertOnLoop()
    switch writeState {
    case .open:
      let hasRoom = try transportHasRoom() && engine.output.count < Self.highWatermark
      if !hasRoom { isRoomAwaited = true }
      return hasRoom
    case .closed: throw StreamError.closed
    case .failed(let error, _): throw error
    }
  }

  /// Whether there is room beneath. A transport that has failed has failed this half too: whoever is told need not close it.
  private func transportHasRoom() throws -> Bool {
    do { return try transport.hasRoom() } catch {
      writeState = .failed(error, isOwedMore: isOwedMore)
      releaseIfDone()
      throw error
    }
  }

  /// Takes note of a transport that has failed while nobody waits to write.
  private func noteFailureOfTransport() {
    if case .open = writeState { _ = try? transportHasRoom() }
  }

  public func push(_ bytes: consuming Bytes) throws {
    assertOnLoop()
    guard case .open = writeState else {
      _ = try hasRoom()
      return
    }
    // Nothing would be sent that gives the memory back.
    if bytes.isEmpty { return }
    if engine.isSendingByKernel { return try transport.push(bytes) }
    try encrypt(bytes.span)
    // The transport may still be filling its own queue.
    if engine.output.count >= Self.highWatermark {
      Reached.mark("tls.outputFull")
      try transport.push(engine.output.take())
    }
    flushAtEndOfTurn()
  }

  /// What is encrypted is in memory of this stream's.
  public func sendAtOnce(_ bytes: Span<UInt8>) -> Int {
    guard case .open = writeState, !bytes.isEmpty else { return 0 }
    if engine.isSendingByKernel { return transport.sendAtOnce(bytes) }
    // What has failed takes the rest to its end, and says why at the next `hasRoom`.
    if (try? encrypt(bytes)) != nil { flush() }
    return bytes.count
  }

  /// - Throws: what it, and this stream with it, has failed with.
  private func encrypt(_ bytes: Span<UInt8>) throws {
    if engine.output.capacity == 0 { engine.output = loop.scratch.take() }
    do { try engine.write(bytes) } catch {
      fail(error)
      throw error
    }
  }

  /// Sends what is encrypted.
  private func sendOutput() throws {
    try transport.sendGathered(engine.takeOutput(), backTo: loop.scratch)
  }

  public var queuedByteCount: Int { engine.output.count + transport.queuedByteCount }
  public var deliveredByteCount: Int? { transport.deliveredByteCount }

  public func flush() {
    // A transport that has failed says so itself, at the next `hasRoom`.
    try? sendOutput()
    guard isRoomAwaited else { return }
    isRoomAwaited = false
    if (try? hasRoom()) != false { writer.wake() }
  }

  // MARK: ending

  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    switch writeState {
    case .closed(let isOwedMore): return transport.closeWhenFlushed { completion(isOwedMore ? $0 : nil) }
    case .failed(_, isOwedMore: false):
      writeState = .closed(isOwedMore: false)
      return completion(nil)
    case .failed(let error, isOwedMore: true): return completion(error)
    case .open: break
    }
    let isOwedMore = isOwedMore
    engine.sendCloseNotify()
    endOutput(isOwedMore: isOwedMore, completion)
  }

  /// A peer that has ended, and has gone, misses nothing but our close_notify: RFC 8446 §6.1 lets it.
  private var isOwedMore: Bool {
    if case .ended = readState { queuedByteCount > 0 } else { true }
  }

  private func endOutput(isOwedMore: Bool, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    writeState = .closed(isOwedMore: isOwedMore)
    do { try sendOutput() } catch {
      completion(isOwedMore ? error : nil)
      writer.wake()
      return releaseIfDone()
    }
    writer.wake()
    transport.closeWhenFlushed { error in
      if error != nil { Reached.mark("tls.closedOnLostTransport") }
      completion(isOwedMore ? error : nil)
      self.releaseIfDone()
    }
  }

  /// Without close_notify, so that the peer does not take what it got for everything (RFC 8446 §6.1).
  public func closeWhenFlushed(after failure: any Error, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    guard case .open = writeState else { return closeWhenFlushed(completion) }
    Reached.mark("tls.closedAfterFailure")
    endOutput(isOwedMore: true, completion)
  }

  public func abort(_ reason: any Error) {
    loop.perform { self.fail(reason) }
  }

  private func fail(_ error: any Error) {
    switch readState {
    case .open, .failing: readState = .failed(error)
    case .ended, .cancelled, .failed: break
    }
    if case .open = writeState {
      // The peer is told by an alert, if there is one to send.
      try? sendOutput()
      writeState = .failed(error, isOwedMore: true)
    }
    transport.detachReader()
    transport.detachWriter()
    transport.abort(error)
    tellReader()
    writer.wake()
  }

  /// Lets go of the transport, which keeps this alive, and of what the peer may still send to it.
  private func releaseIfDone() {
    switch (readState, writeState) {
    case (.open, _), (.failing, _), (_, .open): return
    default:
      transport.detachReader()
      transport.detachWriter()
      transport.cancel(nil)
    }
  }
}

extension TLSStream: LingeringConnection {
  package func whenGone(_ completion: @escaping @Sendable () -> Void) {
    if let transport = transport as? any LingeringConnection { transport.whenGone(completion) } else { completion() }
  }
}

// MARK: what the transport tells

extension TLSStream: Waker {
  /// For the transport: it has something to read.
  public func wakeReader() { tellReader() }

  /// For the transport: it has room.
  public func wakeWriter() {
    if !engine.output.isEmpty { try? sendOutput() }
    isRoomAwaited = false
    noteFailureOfTransport()
    writer.wake()
    // Reading may have waited for room.
    tellReader()
  }
}

extension TLSStream: SentByteCounting {
  /// As it is encrypted.
  package var sentByteCount: Int? { (transport as? any SentByteCounting)?.sentByteCount }
}

/// Where the streams of one loop decrypt to, one behind the other.
final class PlainBuffers: @unchecked Sendable {  // used on its loop only
  private static let size = 64 << 10
  var plain = BytesBuilder()

  /// Makes sure that there is room, and that what was lent is not written again.
  func prepare(room: Int) {
    plain.resetIfUnshared()
    if plain.capacity - plain.count < room { plain = BytesBuilder(capacity: Self.size) }
  }
}

extension TLSStream: PeerEndWatching {
  package var hasPeerEnded: Bool {
    guard case .open = readState else { return true }
    return (transport as? any PeerEndWatching)?.hasPeerEnded ?? false
  }
}

extension TLSStream: TransportDescribing {
  package var peerAddress: SocketAddress? { (transport as? any TransportDescribing)?.peerAddress }
  package var localAddress: SocketAddress? { (transport as? any TransportDescribing)?.localAddress }
  package var isSecure: Bool { true }
  package var tlsInfo: TLSInfo? { engine.info() }
}

extension TLSStream: QueueLimiting {
  /// What is encrypted leaves for the transport at the end of a turn.
  package func limitQueue(to count: Int) -> Int? { (transport as? any QueueLimiting)?.limitQueue(to: count) }
}
