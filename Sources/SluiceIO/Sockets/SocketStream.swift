import CSluiceUV
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A byte stream of the operating system: a TCP connection, a Unix socket, a pipe or a terminal.
///
/// It lives on one loop. Reading goes into the loop's buffer of 256 KiB; what `poll` hands out is a slice of it. At most one
/// chunk that nobody asked for is held; then reading stops, and the peer waits.
///
/// Close, abort, or read to the end and close: an open socket stays open until one of these.
@safe public final class SocketStream: PolledDuplexStream, @unchecked Sendable {
  // `uvLoop`, `name` and the marks never change; everything else is touched on the loop's thread only.
  public typealias Output = Bytes
  public typealias Input = Bytes

  let uvLoop: UVLoop
  /// What this is connected to, for error messages: "127.0.0.1:8000".
  public let name: String
  /// Bytes that may wait in the write queue before a write waits, 1 or more.
  public var highWatermark: Int { watermark.high }
  let handle: UnsafeMutablePointer<uv_stream_t>
  /// The socket's descriptor; nil for a pipe or terminal, and once it is closed.
  private var socketDescriptor: CInt?

  enum ReadState {
    case open
    case ended
    case failed(any Error)
    case cancelled
  }
  private var readState = ReadState.open
  private var writeState = WriteHalf.open
  private var isReading = false
  private var isHandleClosed = false
  private var isWriteInFlight = false
  private var pending: Bytes?
  private var reader: (any Waker)?
  private var writer: (any Waker)?
  private var queue = ByteQueue()
  private var watermark: Watermark
  /// Bytes that the system has taken and that are not in `queue` any more.
  private var takenBytes = 0
  /// Bytes of the write in flight, and those of them that the system had taken when that was looked at last.
  private var byteCountInFlight = 0
  private var takenInFlight = 0

  public static let defaultHighWatermark = 64 << 10

  /// What a handle can do: a pipe goes one way only.
  enum Direction {
    case duplex
    case readOnly
    case writeOnly
  }

  /// Takes over an open handle. On the loop only.
  init(
    adopting handle: UnsafeMutablePointer<uv_stream_t>, on loop: UVLoop, name: String,
    direction: Direction = .duplex, highWatermark: Int = SocketStream.defaultHighWatermark
  ) {
    uvLoop = loop
    switch direction {
    case .duplex: break
    case .readOnly: writeState = .closed
    case .writeOnly: readState = .cancelled
    }
    unsafe self.handle = handle
    socketDescriptor = direction == .duplex ? unsafe Self.descriptor(of: handle) : nil
    self.name = name
    watermark = Watermark(high: highWatermark)
    unsafe handle.pointee.data = Unmanaged.passRetained(self).toOpaque()
  }

  public var loop: any Loop { uvLoop }

  /// Where the peer of a TCP connection is. On the loop only.
  public var peerAddress: SocketAddress? {
    guard let socketDescriptor else { return nil }
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    return unsafe withUnsafeMutablePointer(to: &storage) { pointer in
      let address = unsafe UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: sockaddr.self)
      guard unsafe getpeername(socketDescriptor, address, &length) == 0 else { return nil }
      return unsafe SocketAddress(address)
    }
  }

  private static func descriptor(of handle: UnsafeMutablePointer<uv_stream_t>) -> CInt? {
    var descriptor: uv_os_fd_t = -1
    let raw = unsafe UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_handle_t.self)
    return unsafe uv_fileno(raw, &descriptor) == 0 ? descriptor : nil
  }

}

// MARK: reading

extension SocketStream {
  public func poll() throws -> Polled<Bytes> {
    assert(uvLoop.isCurrent, "a stream is polled on its loop only")
    if let chunk = pending {
      pending = nil
      return .element(chunk)
    }
    switch readState {
    case .open:
      if !isReading { startReading() }
      if case .failed(let error) = readState { throw error }
      return .pending
    case .ended, .cancelled: return .end
    case .failed(let error): throw error
    }
  }

  /// Gives back what was read and is for the next reader. On the loop, before anything else is read.
  package func unread(_ bytes: Bytes) {
    if bytes.isEmpty { return }
    pending = bytes.followed(by: pending ?? Bytes())
  }

  public func attachReader(_ waker: any Waker) throws {
    guard reader == nil else { throw StreamError.concurrentRead }
    reader = waker
  }

  public var hasReader: Bool { reader != nil }

  public func detachReader() { reader = nil }

  private func startReading() {
    let status = unsafe uv_read_start(
      handle,
      { handle, _, buffer in
        let free = unsafe UVLoop.nextReadBuffer(handle!.pointee.loop)
        unsafe buffer!.pointee = unsafe uv_buf_init(
          UnsafeMutableRawPointer(free.baseAddress!).assumingMemoryBound(to: CChar.self), UInt32(free.count))
      },
      { handle, count, _ in
        // The handle keeps the stream alive: no reference is counted for each read.
        unsafe Unmanaged<SocketStream>.fromOpaque(handle!.pointee.data)._withUnsafeGuaranteedRef { $0.didRead(count) }
      })
    if status == 0 {
      isReading = true
    } else {
      readState = .failed(IOError("read", name, status: status))
    }
  }

  private func stopReading() {
    guard isReading else { return }
    isReading = false
    unsafe uv_read_stop(handle)
  }

  private func didRead(_ count: Int) {
    if count == 0 { return }
    uvLoop.turn {
      if count > 0 {
        pending = uvLoop.readBuffer.filled(count)
      } else {
        stopReading()
        noteProgress()
        let status = CInt(count) == UV_EOF.rawValue ? pendingError : CInt(clamping: count)
        readState = status == 0 ? .ended : .failed(IOError("read", name, status: status))
      }
      reader?.wake()
    }
    if let chunk = pending {
      // Nobody took it in this turn: it moves out of the loop's buffer, and the peer waits.
      pending = chunk.compacted()
      stopReading()
    }
    closeHandleIfDone()
  }

  /// What the socket still has to say at its end, as a libuv status; 0 for nothing. When a reset comes right behind the last bytes, libuv reads
  /// those, sees that the peer has hung up, and takes that for an orderly end.
  private var pendingError: CInt {
    guard let socketDescriptor else { return 0 }
    var error: CInt = 0
    var size = socklen_t(MemoryLayout<CInt>.size)
    guard unsafe getsockopt(socketDescriptor, SOL_SOCKET, SO_ERROR, &error, &size) == 0 else { return 0 }
    return uv_translate_sys_error(error)
  }

  public func cancel(_ reason: (any Error)?) {
    uvLoop.perform { self.cancelOnLoop() }
  }

  private func cancelOnLoop() {
    pending = nil
    stopReading()
    if case .open = readState { readState = .cancelled }
    reader?.wake()
    closeHandleIfDone()
  }
}

// MARK: writing

extension SocketStream {
  public func hasRoom() throws -> Bool {
    assert(uvLoop.isCurrent, "a stream is polled on its loop only")
    guard case .open = writeState else { throw writeState.refusal }
    return watermark.hasRoom(queued: queue.count)
  }

  public var needsFlush: Bool { !queue.isEmpty && !isWriteInFlight }

  public func push(_ bytes: consuming Bytes) throws {
    guard case .open = writeState else { throw writeState.refusal }
    // What has to wait for the kernel stays for longer than this turn.
    if isWriteInFlight { queue.appendSettled(bytes) } else { queue.append(bytes) }
  }

  public func attachWriter(_ waker: any Waker) throws {
    guard writer == nil else { throw StreamError.concurrentWrite }
    writer = waker
  }

  public func detachWriter() { writer = nil }

  /// Bytes pushed that the system has not taken yet.
  public var queuedByteCount: Int {
    noteProgress()
    return queue.count - takenInFlight
  }

  /// Of TCP: what the peer has acknowledged.
  public var deliveredByteCount: Int? {
    guard let socketDescriptor, !isHandleClosed else { return nil }
    return Int(exactly: sluice_acknowledged(socketDescriptor)).flatMap { $0 < 0 ? nil : $0 }
  }

  public func flush() {
    guard !queue.isEmpty, !isWriteInFlight, !isHandleClosed else { return }
    let written = unsafe withBuffers(queue.front(limit: Self.maxGathered)) { buffers in
      unsafe uv_try_write(handle, buffers.baseAddress, UInt32(buffers.count))
    }
    if written > 0 {
      drop(Int(written))
    } else if written != UV_EAGAIN.rawValue {
      return failWriting(IOError("write", name, status: written))
    }
    if !queue.isEmpty { writeRest() }
    didDrain()
  }

  /// Writes at once what the kernel takes, and queues the rest.
  public func pushFlushing(_ bytes: consuming Bytes) throws {
    guard queue.isEmpty, !isWriteInFlight, case .open = writeState, !bytes.isEmpty else {
      try push(bytes)
      return flush()
    }
    guard let descriptor = socketDescriptor else {
      try push(bytes)
      return flush()
    }
    let written = unsafe bytes.withUnsafeBytes { unsafe sluice_send(descriptor, $0.baseAddress, UInt($0.count)) }
    if written > 0 { takenBytes += Int(written) }
    if written == bytes.count { return }
    guard written > 0 || written == UV_EAGAIN.rawValue else {
      return failWriting(IOError("write", name, status: CInt(clamping: written)))
    }
    try push(written > 0 ? bytes.dropFirst(Int(written)) : bytes)
    writeRest()
  }

  /// A pipe between two sockets.
  public func drainer<Sink: PolledWritableStream>(into sink: Sink) -> () -> PipeStep where Sink.Input == Bytes {
    if let target = sink as? SocketStream { return { self.drainElements(into: target) } }
    return { self.drainElements(into: sink) }
  }

  /// Chunks that are written at once, at most.
  private static let maxGathered = 64

  /// Calls `body` with the front of the queue.
  private func withBuffers<R>(
    _ chunks: some Collection<Bytes>, _ body: (UnsafeMutableBufferPointer<uv_buf_t>) -> R
  ) -> R {
    unsafe withUnsafeTemporaryAllocation(of: uv_buf_t.self, capacity: chunks.count) { buffers in
      for (index, chunk) in chunks.enumerated() {
        unsafe chunk.withUnsafeBytes { bytes in
          let base = unsafe UnsafeMutableRawPointer(mutating: bytes.baseAddress!).assumingMemoryBound(to: CChar.self)
          // A queue's chunks are of a size that fits.
          unsafe buffers[index] = unsafe uv_buf_init(base, UInt32(clamping: bytes.count))
        }
      }
      return unsafe body(buffers)
    }
  }

  private func drop(_ count: Int) {
    takenBytes += count
    queue.dropFirst(count)
  }

  /// Lets libuv write when the kernel has room.
  private func writeRest() {
    queue.settle()
    let request = WriteRequest(stream: self, chunks: Array(queue.front(limit: Self.maxGathered)))
    let status = unsafe withBuffers(request.chunks) { buffers in
      unsafe uv_write(request.start(), handle, buffers.baseAddress, UInt32(buffers.count)) { request, status in
        unsafe WriteRequest.finish(request!, status: status)
      }
    }
    if status == 0 {
      isWriteInFlight = true
      byteCountInFlight = request.byteCount
    } else {
      request.discard()
      failWriting(IOError("write", name, status: status))
    }
  }

  /// Looks how much of the write in flight has left: when that fails, libuv does not tell.
  private func noteProgress() {
    guard isWriteInFlight, !isHandleClosed else { return }
    if case .failed = writeState { return }
    let left = unsafe uv_stream_get_write_queue_size(handle)
    takenInFlight = Swift.max(takenInFlight, byteCountInFlight - left)
  }

  func didWrite(_ count: Int, status: CInt) {
    uvLoop.turn {
      isWriteInFlight = false
      if status != 0 {
        if !isHandleClosed { failWriting(IOError("write", name, status: status)) }
        return
      }
      takenInFlight = 0
      drop(count)
      if queue.isEmpty { didDrain() } else { flush() }
    }
  }

  /// Something has left, or all.
  private func didDrain() {
    if case .closing = writeState {
      if queue.isEmpty { shutDown() }
    } else if watermark.isReached(queued: queue.count) {
      writer?.wake()
    }
  }

  private func failWriting(_ error: any Error) {
    takenBytes += takenInFlight
    takenInFlight = 0
    let waiting = writeState.end(error)
    queue.removeAll()
    for completion in waiting { completion(error) }
    writer?.wake()
    closeHandleIfDone()
  }
}

// MARK: ending

extension SocketStream {
  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    switch writeState.close(completion) {
    case .begin:
      writer?.wake()
      if queue.isEmpty { didDrain() } else { flush() }
    case .wait: break
    case .done(let error): completion(error)
    }
  }

  /// Sends FIN: everything was written.
  private func shutDown() {
    guard !isHandleClosed else { return }
    let request = ShutdownRequest(stream: self)
    let status = unsafe uv_shutdown(request.start(), handle) { request, status in
      unsafe ShutdownRequest.finish(request!, status: status)
    }
    if status != 0 {
      request.discard()
      didShutDown(status: status)
    }
  }

  func didShutDown(status: CInt) {
    uvLoop.turn {
      guard case .closing = writeState else { return }
      // ENOTCONN: the peer was faster. ENOTSOCK: a pipe or terminal has no half to shut down; it ends with its handle.
      let isFine = status == 0 || status == UV_ENOTCONN.rawValue || status == UV_ENOTSOCK.rawValue
      let error = isFine ? nil : IOError("shutdown", name, status: status)
      for completion in writeState.end(error) { completion(error) }
      closeHandleIfDone()
    }
  }

  public func abort(_ reason: any Error) {
    uvLoop.perform { self.abortOnLoop(reason) }
  }

  private func abortOnLoop(_ reason: any Error) {
    noteProgress()
    switch writeState {
    case .open, .closing: failWriting(reason)
    case .closed, .failed: break
    }
    if case .open = readState { readState = .failed(reason) }
    pending = nil
    stopReading()
    reader?.wake()
    closeHandle(reset: true)
  }

  private func closeHandleIfDone() {
    switch (readState, writeState) {
    case (.open, _), (_, .open), (_, .closing): break
    case (_, .failed): closeHandle(reset: true)
    case (_, .closed): closeHandle(reset: false)
    }
  }

  private func closeHandle(reset: Bool) {
    guard !isHandleClosed else { return }
    isHandleClosed = true
    // The number may be another file's soon.
    socketDescriptor = nil
    let freed: uv_close_cb = { handle in
      unsafe Unmanaged<SocketStream>.fromOpaque(handle!.pointee.data).release()
      unsafe UnsafeMutableRawPointer(handle!).deallocate()
    }
    let raw = unsafe UnsafeMutableRawPointer(handle)
    // RST rather than FIN: the peer must not take what it got for everything.
    if reset, unsafe handle.pointee.type == UV_TCP,
      unsafe uv_tcp_close_reset(raw.assumingMemoryBound(to: uv_tcp_t.self), freed) == 0
    {
      return
    }
    unsafe uv_close(raw.assumingMemoryBound(to: uv_handle_t.self), freed)
  }
}

extension SocketStream: SentByteCounting {
  package var sentByteCount: Int? {
    noteProgress()
    return takenBytes + takenInFlight
  }
}

extension SocketStream: LoopResident {
  func loopWillEnd() {
    let error = IOError("use", name, status: UV_ECANCELED.rawValue)
    switch writeState {
    case .open: abort(error)
    case .closing, .closed, .failed:
      // What was written is flushed, and no reset overtakes it.
      if case .open = readState { readState = .failed(error) }
      pending = nil
      stopReading()
      reader?.wake()
      closeHandleIfDone()
    }
  }
}
