import CSluiceSystem
import CSluiceUV
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A byte stream of the operating system: a TCP connection, a Unix socket, a pipe or a terminal.
///
/// It lives on one loop. What `poll` hands out is a slice of the loop's buffer of 256 KiB, read when it is asked for: while nobody
/// asks, the bytes stay in the system, and the peer waits.
///
/// An open socket stays open until it is aborted, or closed, and read to its end or cancelled. Closed and cancelled, it reads on and drops what it reads
/// until the peer has ended too, or has taken nothing for 2 seconds, so that nothing that was written is lost by a reset.
@safe
public final class SocketStream: PolledDuplexStream, ReaderHolding, WriterHolding, GatheringSink,
  QueueLimiting,
  @unchecked Sendable
{
  // `uvLoop`, `name` and the marks never change; everything else is touched on the loop's thread only.
  public typealias Output = Bytes
  public typealias Input = Bytes

  let uvLoop: UVLoop
  /// What this is connected to, for error messages: "127.0.0.1:8000".
  public let name: String
  /// Bytes that may wait in the write queue before a write waits, 1 or more.
  public var highWatermark: Int { watermark.high }
  // The small ones stand together: an idle connection holds all of this.
  @safe @exclusivity(unchecked) private var watch: DescriptorWatch
  private let isSocket: Bool
  /// Whether the system has something to read, the end included, that was not looked at yet.
  @safe @exclusivity(unchecked) private var isReadable = false
  /// Whether the peer has ended its half or is lost, as far as the system has told: that is looked for while nobody reads.
  @safe @exclusivity(unchecked) package private(set) var hasPeerEnded = false
  /// Whether the system had no room for what is queued.
  @safe @exclusivity(unchecked) private var isSystemFull = false
  @safe @exclusivity(unchecked) @usableFromInline package var isFlushScheduled = false
  @safe @exclusivity(unchecked) private var watermark: Watermark
  /// Whether the connection is for us to end, with FIN or RST; what others share goes on.
  @safe @exclusivity(unchecked) var endsConnection: Bool

  enum ReadState {
    case open
    case ended
    case failed(any Error)
    case cancelled
    /// Cancelled, and our half has ended too.
    case lingering(Lingering)
  }
  @safe @exclusivity(unchecked) private var readState = ReadState.open
  @safe @exclusivity(unchecked) private var writeState = WriteHalf.open
  /// What was given back, the latest at the end.
  @safe @exclusivity(unchecked) private var unread: [Bytes] = []
  @safe @exclusivity(unchecked) private var reader = ReaderSlot()
  @safe @exclusivity(unchecked) package var writer = RoomWaiters.nobody
  @safe @exclusivity(unchecked) private var queue = ByteQueue()
  /// Bytes that the system has taken.
  @safe @exclusivity(unchecked) private var takenBytes = 0
  /// What has its place between the bytes, where the system encrypts them.
  @safe @exclusivity(unchecked) private var encryption: SocketEncryption?
  /// Our half ends with a reset, once the peer has everything.
  @safe @exclusivity(unchecked) private var endsWithReset = false

  public static let defaultHighWatermark = 64 << 10

  /// What a descriptor can do: a pipe goes one way only.
  enum Direction {
    case duplex
    case readOnly
    case writeOnly
  }

  /// Takes over an open descriptor. On the loop only.
  /// - Parameter readerMayReturn: Of what is only written: whether another reader may come when the last one has gone, as to a named pipe. If
  ///   not, it takes no more as soon as that has gone, also while there is nothing to write.
  init(
    _ watch: consuming DescriptorWatch, on loop: UVLoop, name: String, direction: Direction = .duplex,
    isSocket: Bool = true, readerMayReturn: Bool = false, highWatermark: Int = SocketStream.defaultHighWatermark
  ) {
    uvLoop = loop
    switch direction {
    case .duplex: break
    case .readOnly: writeState = .closed
    case .writeOnly: readState = .cancelled
    }
    self.watch = watch
    self.isSocket = isSocket
    endsConnection = isSocket
    self.name = name
    watermark = Watermark(high: highWatermark)
    unsafe self.watch.belong(to: self) { owner, ready, hasFailed in
      // The watch keeps the stream alive: no reference is counted for each call.
      unsafe Unmanaged<SocketStream>.fromOpaque(owner)._withUnsafeGuaranteedRef {
        $0.didBecomeReady(Readiness(rawValue: ready), hasFailed: hasFailed)
      }
    }
    // If that can't be watched for, a write says it.
    if direction == .writeOnly && !readerMayReturn { _ = self.watch.start(.gone) }
  }

  public var loop: any Loop { uvLoop }

  /// Where the peer of a TCP connection is. On the loop only.
  public var peerAddress: SocketAddress? {
    guard isSocket, !watch.isClosed else { return nil }
    return unsafe SocketAddress.ofSocket { unsafe getpeername(watch.descriptor, $0, $1) }
  }

  /// Our own address of a TCP connection. On the loop only.
  public var localAddress: SocketAddress? {
    guard isSocket, !watch.isClosed else { return nil }
    return unsafe SocketAddress.ofSocket { unsafe getsockname(watch.descriptor, $0, $1) }
  }

  /// Has a pipe hold more than is usual. On the loop only.
  func growPipe() {
    if !watch.isClosed { sluice_grow_pipe(watch.descriptor) }
  }

  /// Tells a terminal the size of its window. On the loop only.
  func setWindow(columns: UInt16, rows: UInt16) {
    if !watch.isClosed { sluice_set_window(watch.descriptor, columns, rows) }
  }

  /// What ends the input of a terminal's program. On the loop only.
  var endCharacter: UInt8 { watch.isClosed ? 4 : sluice_end_character(watch.descriptor) }

  /// In a turn of the loop.
  private func didBecomeReady(_ readiness: Readiness, hasFailed: Bool) {
    if readiness.contains(.gone) { return didLoseReader() }
    if hasFailed || readiness.contains(.ended) {
      hasPeerEnded = true
      watch.stop(.ended)
    }
    // What has failed says why to whoever reads or writes.
    if hasFailed || !readiness.isDisjoint(with: [.readable, .ended]) {
      if isReadable {
        if case .lingering = readState { return dropReceived() }
        // Nobody has read since the last time: the peer waits.
        watch.stop(.readable)
        if isSocket, !hasPeerEnded { watch.startLater(.ended) }
      }
      isReadable = true
      tellReader()
    }
    if isSystemFull {
      guard hasFailed || readiness.contains(.writable) else { return }
      isSystemFull = false
      flush()
    }
    if !isSystemFull { watch.stop(.writable) }
  }
}

// MARK: reading

extension SocketStream {
  public func poll() throws -> Polled<Bytes> {
    assert(uvLoop.isCurrent, "a stream is polled on its loop only")
    if let bytes = unread.popLast() {
      if unread.isEmpty { unread = [] }
      return .element(bytes)
    }
    switch readState {
    case .open: return try receive()
    case .ended, .cancelled, .lingering: return .end
    case .failed(let error): throw error
    }
  }

  public var isDry: Bool {
    guard case .open = readState else { return false }
    return !isReadable && unread.isEmpty && watch.awaits(.readable)
  }

  public func poll(lendingTo use: (Span<UInt8>) -> Int) throws -> PolledLending<Bytes> {
    guard isReadable, unread.isEmpty, case .open = readState else { return PolledLending(try poll()) }
    let (buffer, count) = unsafe readOnce()
    guard count > 0 else { return PolledLending(try endOrAwait(count)) }
    uvLoop.readBuffer.lend()
    let used = unsafe use(Span(_unsafeElements: UnsafeBufferPointer(start: buffer, count: count)))
    if used < count { return .element(uvLoop.readBuffer.endLending(from: used, to: count)) }
    uvLoop.readBuffer.endLending()
    return .used(isDry: isDry)
  }

  /// Reads once for each time that the loop has told of something: a peer that is always faster does not hold the loop.
  private func receive() throws -> Polled<Bytes> {
    guard isReadable else { return try awaitReadability() }
    let (_, count) = unsafe readOnce()
    return count > 0 ? .element(uvLoop.readBuffer.filled(count)) : try endOrAwait(count)
  }

  /// - Returns: where the bytes lie, and how many they are, or 0 or a negative libuv status.
  private func readOnce() -> (UnsafeMutablePointer<UInt8>?, Int) {
    isReadable = false
    let buffer = unsafe uvLoop.readBuffer.next()
    return unsafe (buffer.baseAddress, sluice_read(watch.descriptor, isSocket, buffer.baseAddress, UInt(buffer.count)))
  }

  private func endOrAwait(_ result: Int) throws -> Polled<Bytes> {
    result == UV_EAGAIN.rawValue ? try awaitReadability() : try endReading(status: CInt(clamping: result))
  }

  private func awaitReadability() throws -> Polled<Bytes> {
    let status = watch.start(.readable)
    return status == 0 ? .pending : try endReading(status: status)
  }

  public func drainer<Sink: PolledWritableStream>(into sink: Sink) -> () -> PipeStep where Sink.Input == Bytes {
    if let target = sink as? SocketStream { return { self.drainBytes(into: target) } }
    return { self.drainBytes(into: sink) }
  }

  private func endReading(status: CInt) throws -> Polled<Bytes> {
    readState = status == 0 ? .ended : .failed(IOError("read", name, status: status))
    watch.stop(.readable)
    closeDescriptorIfDone()
    if case .failed(let error) = readState { throw error }
    return .end
  }

  /// Gives back what was read and is for the next reader. On the loop, before anything else is read.
  package func unread(_ bytes: Bytes) {
    if !bytes.isEmpty { unread.append(bytes.compacted()) }
  }

  @usableFromInline
  package func withReader<R>(_ body: (inout ReaderSlot) throws -> R) rethrows -> R { try body(&reader) }

  public func cancel(_ reason: (any Error)?) {
    uvLoop.perform { self.cancelOnLoop() }
  }

  private func cancelOnLoop() {
    if case .lingering = readState { return }
    unread = []
    watch.stop(.readable)
    if case .open = readState { readState = .cancelled }
    tellReader()
    closeDescriptorIfDone()
  }
}

// MARK: writing

extension SocketStream {
  public func hasRoom() throws -> Bool {
    assert(uvLoop.isCurrent, "a stream is polled on its loop only")
    guard case .open = writeState else { throw writeState.refusal }
    return watermark.hasRoom(queued: queuedByteCount)
  }

  package func limitQueue(to count: Int) -> Int? {
    defer { watermark.move(high: count) }
    return watermark.high
  }

  private var needsFlush: Bool { !isDrained && !isSystemFull }

  /// Whether the system has taken everything.
  private var isDrained: Bool { queue.isEmpty && encryption?.isEmpty != false }

  public func push(_ bytes: consuming Bytes) throws {
    guard case .open = writeState else { throw writeState.refusal }
    // What has to wait for the system stays for longer than this turn.
    if isSystemFull { return queue.appendSettled(bytes) }
    queue.append(bytes)
    flushAtEndOfTurn()
  }

  /// Bytes pushed that the system has not taken yet.
  public var queuedByteCount: Int { queue.count + (encryption?.queuedByteCount ?? 0) }

  /// Of TCP: what the peer has acknowledged.
  public var deliveredByteCount: Int? {
    guard isSocket, !watch.isClosed else { return nil }
    return Int(exactly: sluice_acknowledged(watch.descriptor)).flatMap { $0 < 0 ? nil : $0 }
  }

  public func flush() {
    if isFlushScheduled { isFlushScheduled = !uvLoop.cancelEndOfTurn(self) }
    guard needsFlush, !watch.isClosed else { return }
    while !isDrained {
      var limit = Int.max
      if let encryption {
        let status = encryption.sendDue(watch.descriptor, at: takenBytes)
        guard didSend(status) else { return }
        if status < 0 { return awaitRoom() }
        limit = encryption.byteCount(from: takenBytes)
        if queue.isEmpty { break }
      }
      let (written, offered) = unsafe withBuffers(queue.front(limit: Self.maxGathered), upTo: limit) {
        buffers, byteCount in
        (unsafe sluice_write(watch.descriptor, isSocket, buffers.baseAddress, CInt(buffers.count)), byteCount)
      }
      guard didSend(written) else { return }
      if written > 0 { queue.dropFirst(written) }
      if written < offered {
        awaitRoom()
        break
      }
    }
    didDrain()
  }

  public func sendAtOnce(_ bytes: Span<UInt8>) -> Int {
    guard isDrained, case .open = writeState, !bytes.isEmpty else { return 0 }
    let written = unsafe bytes.withUnsafeBytes {
      unsafe sluice_send(watch.descriptor, isSocket, $0.baseAddress, UInt($0.count))
    }
    // What has failed takes the rest to its end, and says why at the next `hasRoom`.
    guard didSend(written) else { return bytes.count }
    if written < bytes.count { awaitRoom() }
    return Swift.max(written, 0)
  }

  /// Chunks that are written at once, at most.
  private static let maxGathered = 64

  /// Takes note of what a call to the system came to: bytes, or a negative libuv status.
  /// - Returns: false if it has failed, for another reason than that there is no room.
  private func didSend(_ result: Int) -> Bool {
    if result > 0 { takenBytes += result }
    if result >= 0 || result == UV_EAGAIN.rawValue { return true }
    failWriting(IOError("write", name, status: CInt(clamping: result)))
    return false
  }

  private func awaitRoom() {
    queue.settle()
    isSystemFull = true
    let status = watch.start(.writable)
    if status != 0 { failWriting(IOError("write", name, status: status)) }
  }

  /// Something has left, or all.
  private func didDrain() {
    if case .closing = writeState {
      if isDrained { shutDown() }
    } else if watermark.isReached(queued: queuedByteCount) {
      writer.wake()
    }
  }

  /// Nobody will read any more. Of what the system has taken already, nobody knows whether it was read.
  private func didLoseReader() {
    watch.stop(.gone)
    guard isDrained else { return failWriting(IOError("write", name, status: UV_EPIPE.rawValue)) }
    _ = writeState.end(nil)
    writer.wake()
    closeDescriptorIfDone()
  }

  private func failWriting(_ error: any Error) {
    let waiting = writeState.end(error)
    queue.removeAll()
    encryption?.removeAll()
    isSystemFull = false
    watch.stop(.writable)
    for completion in waiting { completion(error) }
    writer.wake()
    closeDescriptorIfDone()
  }
}

// MARK: ending

extension SocketStream {
  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    switch writeState.close(completion) {
    case .begin:
      writer.wake()
      if isDrained { didDrain() } else { flush() }
    case .wait: break
    case .done(let error): completion(error)
    }
  }

  /// TCP is reset, in both directions, once the peer has acknowledged everything: a reset overtakes what has not arrived. If that is not so within
  /// `acknowledgementTimeout`, and for other kinds of sockets, it is an ordinary end.
  public func closeWhenFlushed(after failure: any Error, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    if case .open = writeState { endsWithReset = endsConnection }
    closeWhenFlushed(completion)
  }

  /// For how long a reset waits until the peer has acknowledged everything: 10 seconds.
  public static let acknowledgementTimeout = Duration.seconds(10)

  /// What looks whether everything is acknowledged comes again after this, and then after twice the time.
  private static let firstLook = Duration.milliseconds(1)
  private static let longestLook = Duration.milliseconds(100)

  private func resetWhenAcknowledged(by deadline: Duration, after pause: Duration = SocketStream.firstLook) {
    guard case .closing = writeState, !watch.isClosed else { return }
    let count = sluice_unacknowledged(watch.descriptor)
    if count == 0 { return reset() }
    if count < 0 || uvLoop.now >= deadline {
      endsWithReset = false
      return shutDown()
    }
    let next = Swift.min(pause * 2, Self.longestLook)
    _ = uvLoop.schedule(after: pause) { self.resetWhenAcknowledged(by: deadline, after: next) }
  }

  private func reset() {
    let waiting = writeState.end(nil)
    if case .open = readState { readState = .failed(StreamError.aborted) }
    unread = []
    watch.close(resets: true)
    for completion in waiting { completion(nil) }
    tellReader()
  }

  /// Sends FIN: everything was written. A pipe or terminal has no half to shut down; it ends with its descriptor.
  private func shutDown() {
    if endsWithReset { return resetWhenAcknowledged(by: uvLoop.now + Self.acknowledgementTimeout) }
    let hasFailed = endsConnection && shutdown(watch.descriptor, CInt(SHUT_WR)) != 0
    // ENOTCONN: the peer was faster.
    let error = hasFailed && errno != ENOTCONN ? IOError("shutdown", name, status: -errno) : nil
    for completion in writeState.end(error) { completion(error) }
    closeDescriptorIfDone()
  }

  public func abort(_ reason: any Error) {
    uvLoop.perform { self.abortOnLoop(reason) }
  }

  private func abortOnLoop(_ reason: any Error) {
    // It has ended well: a reset would destroy what is still on its way.
    if case .lingering = readState { return endLingering() }
    switch writeState {
    case .open, .closing: failWriting(reason)
    case .closed, .failed: break
    }
    if case .open = readState { readState = .failed(reason) }
    unread = []
    tellReader()
    watch.close(resets: endsConnection)
  }

  private func closeDescriptorIfDone() {
    switch (readState, writeState) {
    case (.open, _), (.lingering, _), (_, .open), (_, .closing): break
    // The peer must not take what it got for everything.
    case (_, .failed): watch.close(resets: endsConnection)
    case (.cancelled, .closed) where endsConnection && uvLoop.usability == 0: linger()
    case (_, .closed): watch.close()
    }
  }
}

// MARK: lingering

extension SocketStream: LingeringConnection {
  private func linger() {
    if watch.isClosed { return }
    readState = .lingering(Lingering(self) { self.endLingering() })
    dropReceived()
  }

  /// Reads once, and drops it.
  private func dropReceived() {
    let (_, count) = unsafe readOnce()
    // This is told of more then.
    isReadable = true
    if count > 0 || count == UV_EAGAIN.rawValue, watch.start(.readable) == 0 { return }
    endLingering()
  }

  private func endLingering() {
    guard case .lingering(let lingering) = readState else { return }
    readState = .ended
    watch.close()
    lingering.end()
  }

  package func whenGone(_ completion: @escaping @Sendable () -> Void) {
    if case .lingering(let lingering) = readState { lingering.whenEnded(completion) } else { completion() }
  }
}

extension SocketStream: RecordEncrypting {
  package var encryptionSupport: EncryptionSupport { isSocket ? SocketEncryption.support : .none }

  package func startEncrypting(with keys: [UInt8]) -> Bool {
    flush()
    guard case .open = writeState, isDrained, encryption == nil else { return false }
    encryption = SocketEncryption(watch.descriptor, keys: keys)
    return encryption != nil
  }

  package func changeKeys(to keys: [UInt8]) throws {
    guard case .open = writeState else { throw writeState.refusal }
    encryption?.append(keys: keys, at: takenBytes + queue.count)
    flushAtEndOfTurn()
  }

  package func push(record: Bytes, ofType type: UInt8) throws {
    guard case .open = writeState else { throw writeState.refusal }
    encryption?.append(record: record, ofType: type, at: takenBytes + queue.count)
    flushAtEndOfTurn()
  }
}

extension SocketStream: SentByteCounting {
  package var sentByteCount: Int? { takenBytes }
}

extension SocketStream: LoopResident {
  func loopWillEnd() {
    let error = IOError("use", name, status: UV_ECANCELED.rawValue)
    endLingering()
    switch writeState {
    case .open: abort(error)
    case .closing, .closed, .failed:
      // What was written is flushed, and no reset overtakes it.
      if case .open = readState { readState = .failed(error) }
      unread = []
      watch.stop(.readable)
      tellReader()
      closeDescriptorIfDone()
    }
  }
}

/// Calls `body` with where chunks lie, up to a number of bytes that is above 0, and how many bytes they have.
private func withBuffers<R>(
  _ chunks: some Collection<Bytes>, upTo limit: Int, _ body: (UnsafeMutableBufferPointer<iovec>, Int) -> R
) -> R {
  unsafe withUnsafeTemporaryAllocation(of: iovec.self, capacity: chunks.count) { buffers in
    var byteCount = 0
    var used = 0
    for chunk in chunks where byteCount < limit {
      unsafe chunk.withUnsafeBytes { bytes in
        let count = min(bytes.count, limit - byteCount)
        unsafe buffers[used] = unsafe iovec(
          iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: count)
        byteCount += count
      }
      used += 1
    }
    return unsafe body(UnsafeMutableBufferPointer(rebasing: buffers[..<used]), byteCount)
  }
}

extension SocketStream: PeerEndWatching {}

extension SocketStream: TransportDescribing {
  package var sendsToSystem: Bool { true }
}
