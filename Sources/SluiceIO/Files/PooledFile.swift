import CSluiceUV
import SluiceStreams

/// What can't be waited for, as a file, read and written on libuv's thread pool.
///
/// One chunk (128 KiB) is read ahead; writes above the watermark (1 MiB) wait. The descriptor is closed when each half that it
/// was opened for is read to its end, cancelled, closed or aborted, and with the last reference at the latest.
final class PooledFile: PolledDuplexStream, ReaderHolding, WriterHolding, GatheringSink, @unchecked Sendable {
  // `uvLoop` and `name` never change; everything else is touched on the loop only.
  typealias Output = Bytes
  typealias Input = Bytes

  private static let chunkSize = 128 << 10
  private static let highWatermark = 1 << 20
  /// Chunks of one write.
  private static let gatherLimit = 64
  /// What a pipe that may be written takes at once, for sure (PIPE_BUF).
  private static let guardedWriteSize = 4096

  let uvLoop: UVLoop
  /// For error messages.
  let name: String
  private let descriptor: CInt
  private var ownership: Ownership
  /// Of a descriptor that may keep a thread of the pool waiting: says when it would not.
  private var guarding: DescriptorWatch?
  /// What can be done once without waiting.
  private var ready: Readiness = []

  /// Who closes the descriptor.
  private enum Ownership {
    case ours
    case notOurs
    case closed
  }

  private enum ReadState {
    case open(position: Int64)
    case ended
    case failed(any Error)
  }
  private enum WriteState {
    case open(position: Int64)
    case closing(position: Int64, [@Sendable ((any Error)?) -> Void])
    case closed
    case failed(any Error)
  }
  private var readState: ReadState
  private var writeState: WriteState
  private var isReadInFlight = false
  private var isWriteInFlight = false
  var isFlushScheduled = false
  private var readAhead: Bytes?
  private var reader = ReaderSlot()
  var writer = RoomWaiters.nobody
  private var queue = ByteQueue()
  private var watermark = Watermark(high: PooledFile.highWatermark)

  /// What a descriptor was opened for.
  enum Direction {
    case read, write, both

    var ofSocket: SocketStream.Direction {
      switch self {
      case .read: .readOnly
      case .write: .writeOnly
      case .both: .duplex
      }
    }
  }

  /// - Parameters:
  ///   - readPosition: Where reading begins; -1 is the descriptor's own position.
  ///   - writePosition: As for reading.
  init(
    descriptor: CInt, owned: Bool, name: String, direction: Direction, readPosition: Int64 = -1,
    writePosition: Int64 = -1, on loop: UVLoop
  ) {
    self.descriptor = descriptor
    ownership = owned ? .ours : .notOurs
    self.name = name
    uvLoop = loop
    readState = direction == .write ? .ended : .open(position: readPosition)
    writeState = direction == .read ? .closed : .open(position: writePosition)
  }

  /// Over a pipe, a terminal or a device that blocks: the pool is asked only when it need not wait, unless others of those who share it are
  /// faster. Until it is closed, it lives. On the loop only.
  convenience init(
    guarding watch: consuming DescriptorWatch, name: String, direction: Direction, readerMayReturn: Bool,
    on loop: UVLoop
  ) {
    self.init(descriptor: watch.descriptor, owned: true, name: name, direction: direction, on: loop)
    guarding = consume watch
    unsafe guarding?.belong(to: self) { owner, ready, hasFailed in
      unsafe Unmanaged<PooledFile>.fromOpaque(owner)._withUnsafeGuaranteedRef {
        $0.didBecomeReady(Readiness(rawValue: ready), hasFailed: hasFailed)
      }
    }
    if direction == .write && !readerMayReturn { _ = guarding?.start(.gone) }
  }

  private func didBecomeReady(_ readiness: Readiness, hasFailed: Bool) {
    if readiness.contains(.gone) { return didLoseReader() }
    guarding?.stop(readiness)
    ready.formUnion(hasFailed ? [.readable, .writable] : readiness)
    if readiness.contains(.readable) { startReading() }
    if readiness.contains(.writable) { flush() }
  }

  /// Nobody will read any more.
  private func didLoseReader() {
    guarding?.stop(.gone)
    guard queue.isEmpty, !isWriteInFlight, case .open = writeState else {
      return fail(IOError("write", name, status: UV_EPIPE.rawValue))
    }
    writeState = .closed
    closeIfDone()
    writer.wake()
  }

  /// Whether no thread of the pool would have to wait; if one would, it is tried again when that has changed.
  private func isReady(_ readiness: Readiness) -> Bool {
    if ready.remove(readiness) != nil { return true }
    // What can't be watched any more says why when it is used.
    return guarding?.start(readiness) != 0
  }

  deinit {
    guard case .ours = ownership else { return }
    uvLoop.perform { [descriptor, uvLoop] in FileRequest.close(descriptor, on: uvLoop) }
  }

  var loop: any Loop { uvLoop }
}

// MARK: reading

extension PooledFile {
  func poll() throws -> Polled<Bytes> {
    if let chunk = readAhead {
      readAhead = nil
      startReading()
      return .element(chunk)
    }
    switch readState {
    case .open:
      startReading()
      return .pending
    case .ended: return .end
    case .failed(let error): throw error
    }
  }

  private func startReading() {
    guard case .open(let position) = readState, !isReadInFlight, isReady(.readable) else { return }
    isReadInFlight = true
    let storage = ByteStorage(capacity: Self.chunkSize)
    unsafe FileRequest.start(on: uvLoop) { loop, request, callback in
      var buffer = unsafe uv_buf_init(
        UnsafeMutableRawPointer(storage.pointer).assumingMemoryBound(to: CChar.self), UInt32(Self.chunkSize))
      return unsafe uv_fs_read(loop, request, descriptor, &buffer, 1, position, callback)
    } completion: { count, _ in
      self.isReadInFlight = false
      self.didRead(count, storage)
    }
  }

  private func didRead(_ count: Int, _ storage: ByteStorage) {
    guard case .open(let position) = readState else { return closeIfDone() }
    if count > 0 {
      readState = .open(position: position < 0 ? position : position + Int64(count))
      let chunk = Bytes(storage: storage, start: 0, end: count)
      // A short chunk must not hold a whole buffer.
      readAhead = count < Self.chunkSize / 2 ? chunk.compacted() : chunk
    } else {
      readState = count == 0 ? .ended : .failed(IOError("read", name, status: CInt(clamping: count)))
      closeIfDone()
    }
    tellReader()
  }

  func withReader<R>(_ body: (inout ReaderSlot) throws -> R) rethrows -> R { try body(&reader) }

  func cancel(_ reason: (any Error)?) {
    uvLoop.perform {
      self.readAhead = nil
      if case .open = self.readState { self.readState = .ended }
      self.tellReader()
      self.closeIfDone()
    }
  }
}

// MARK: writing

extension PooledFile {
  func hasRoom() throws -> Bool {
    switch writeState {
    case .open: return watermark.hasRoom(queued: queue.count)
    case .closing, .closed: throw StreamError.closed
    case .failed(let error): throw error
    }
  }

  var queuedByteCount: Int { queue.count }

  func push(_ bytes: consuming Bytes) throws {
    guard case .open = writeState else {
      _ = try hasRoom()
      return
    }
    // No write to a file is done within the turn.
    queue.appendSettled(bytes)
    // What is in flight has the rest follow it.
    if !isWriteInFlight { flushAtEndOfTurn() }
  }

  func flush() {
    guard !queue.isEmpty, !isWriteInFlight, let position = writePosition, isReady(.writable) else { return }
    isWriteInFlight = true
    let chunks =
      guarding == nil
      ? Array(queue.front(limit: Self.gatherLimit)) : queue.front(limit: 1).map { $0.prefix(Self.guardedWriteSize) }
    unsafe FileRequest.start(on: uvLoop) { loop, request, callback in
      unsafe withUnsafeTemporaryAllocation(of: uv_buf_t.self, capacity: chunks.count) { buffers in
        for (index, chunk) in chunks.enumerated() {
          unsafe chunk.withUnsafeBytes { bytes in
            let base = unsafe UnsafeMutableRawPointer(mutating: bytes.baseAddress!).assumingMemoryBound(to: CChar.self)
            unsafe buffers[index] = unsafe uv_buf_init(base, UInt32(clamping: bytes.count))
          }
        }
        return unsafe uv_fs_write(
          loop, request, descriptor, buffers.baseAddress, UInt32(chunks.count), position, callback)
      }
    } completion: { result, _ in
      // An abort empties the queue; the thread pool has read the chunks until now.
      withExtendedLifetime(chunks) {}
      self.isWriteInFlight = false
      self.didWrite(result)
    }
  }

  private var writePosition: Int64? {
    switch writeState {
    case .open(let position), .closing(let position, _): position
    case .closed, .failed: nil
    }
  }

  private func didWrite(_ count: Int) {
    guard writePosition != nil else { return closeIfDone() }
    if count < 0 { return fail(IOError("write", name, status: CInt(clamping: count))) }
    queue.dropFirst(count)
    advance(by: Int64(count))
    if queue.isEmpty { finishClosing() } else { flush() }
    if watermark.isReached(queued: queue.count) { writer.wake() }
  }

  private func advance(by count: Int64) {
    switch writeState {
    case .open(let position) where position >= 0: writeState = .open(position: position + count)
    case .closing(let position, let waiting) where position >= 0:
      writeState = .closing(position: position + count, waiting)
    case .open, .closing, .closed, .failed: break
    }
  }

}

// MARK: ending

extension PooledFile {
  func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    switch writeState {
    case .open(let position):
      writeState = .closing(position: position, [completion])
      flush()
      finishClosing()
    case .closing(let position, let waiting): writeState = .closing(position: position, waiting + [completion])
    case .closed: completion(nil)
    case .failed(let error): completion(error)
    }
  }

  /// Ends the write half once everything is written, and the descriptor with it if it was the last.
  private func finishClosing() {
    guard case .closing = writeState, queue.isEmpty, !isWriteInFlight else { return }
    guard hasReadEnded, !isReadInFlight, case .ours = ownership else { return didClose(nil) }
    release()
    FileRequest.close(descriptor, on: uvLoop) { status in
      self.didClose(status == 0 ? nil : IOError("close", self.name, status: status))
    }
  }

  private func didClose(_ error: IOError?) {
    guard case .closing(_, let completions) = writeState else { return }
    writeState = error.map { .failed($0) } ?? .closed
    closeIfDone()
    writer.wake()
    for completion in completions { completion(error) }
  }

  private func fail(_ error: any Error) {
    var completions: [@Sendable ((any Error)?) -> Void] = []
    if case .closing(_, let waiting) = writeState { completions = waiting }
    writeState = .failed(error)
    queue.removeAll()
    closeIfDone()
    writer.wake()
    for completion in completions { completion(error) }
  }

  func abort(_ reason: any Error) {
    uvLoop.perform {
      if case .open = self.readState { self.readState = .failed(reason) }
      self.readAhead = nil
      switch self.writeState {
      case .open, .closing: self.fail(reason)
      case .closed, .failed: self.closeIfDone()
      }
      self.tellReader()
    }
  }

  private var hasReadEnded: Bool {
    if case .open = readState { false } else { true }
  }

  /// Closes the descriptor when both halves have ended and the thread pool is done with it.
  private func closeIfDone() {
    guard case .ours = ownership, hasReadEnded, writePosition == nil, !isReadInFlight, !isWriteInFlight else { return }
    release()
    FileRequest.close(descriptor, on: uvLoop)
  }

  private func release() {
    ownership = .closed
    guarding?.close()
  }
}

extension PooledFile: LoopResident {
  func loopWillEnd() { abort(IOError("use", name, status: UV_ECANCELED.rawValue)) }
}
