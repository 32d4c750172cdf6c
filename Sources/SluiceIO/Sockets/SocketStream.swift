import CSluiceUV
import DequeModule
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A byte stream of the operating system: a TCP connection, a Unix socket, a pipe or a terminal.
///
/// It lives on one loop. Reading goes into the loop's buffer; what `poll` hands out is a slice of it. At most one chunk
/// that nobody asked for is held (64 KiB of copy at the most); then reading stops, and the peer waits.
///
/// Close, abort, or read to the end and close: an open socket stays open until one of these.
@safe public final class SocketStream: PolledDuplexStream, @unchecked Sendable {
  // `uvLoop`, `name` and `highWatermark` never change; everything else is touched on the loop's thread only.
  public typealias Output = Bytes
  public typealias Input = Bytes

  let uvLoop: UVLoop
  /// What this is connected to, for error messages: "127.0.0.1:8000".
  public let name: String
  /// Bytes that may wait in the write queue before a write waits.
  public let highWatermark: Int
  let handle: UnsafeMutablePointer<uv_stream_t>
  /// The socket's descriptor; nil for a pipe or terminal.
  private let socketDescriptor: CInt?

  enum ReadState {
    case open
    case ended
    case failed(any Error)
    case cancelled
  }
  enum WriteState {
    case open
    case closing([@Sendable ((any Error)?) -> Void])
    case closed
    case failed(any Error)
  }
  private var readState = ReadState.open
  private var writeState = WriteState.open
  private var isReading = false
  private var isHandleClosed = false
  private var isWriteInFlight = false
  private var pending: Bytes?
  private var reader: (any Waker)?
  private var writer: (any Waker)?
  private var queue = Deque<Bytes>()
  private var queuedBytes = 0

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
    self.highWatermark = highWatermark
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
        readState = CInt(count) == UV_EOF.rawValue ? .ended : .failed(IOError("read", name, status: CInt(count)))
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
    switch writeState {
    case .open: return queuedBytes < highWatermark
    case .closing, .closed: throw StreamError.closed
    case .failed(let error): throw error
    }
  }

  public var needsFlush: Bool { !queue.isEmpty && !isWriteInFlight }

  public func push(_ bytes: consuming Bytes) throws {
    guard case .open = writeState else {
      _ = try hasRoom()
      return
    }
    if bytes.isEmpty { return }
    queuedBytes += bytes.count
    queue.append(bytes)
  }

  public func attachWriter(_ waker: any Waker) throws {
    guard writer == nil else { throw StreamError.concurrentWrite }
    writer = waker
  }

  public func detachWriter() { writer = nil }

  /// Bytes pushed that the system has not taken yet.
  public var queuedByteCount: Int { queuedBytes }

  public func flush() {
    guard !queue.isEmpty, !isWriteInFlight, !isHandleClosed else { return }
    let written = unsafe withBuffers { buffers in
      unsafe uv_try_write(handle, buffers.baseAddress, UInt32(buffers.count))
    }
    if written > 0 {
      drop(Int(written))
    } else if written != UV_EAGAIN.rawValue {
      return failWriting(IOError("write", name, status: written))
    }
    if queue.isEmpty { didDrain() } else { writeRest() }
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
    if written == bytes.count { return }
    guard written > 0 || written == UV_EAGAIN.rawValue else {
      return failWriting(IOError("write", name, status: CInt(clamping: written)))
    }
    try push(written > 0 ? bytes.dropFirst(Int(written)) : bytes)
    writeRest()
  }

  /// A pipe between two sockets.
  public func drainer<Sink: PolledWritableStream>(into sink: Sink) -> () -> PipeOutcome? where Sink.Input == Bytes {
    if let target = sink as? SocketStream { return { self.drainElements(into: target) } }
    return { self.drainElements(into: sink) }
  }

  /// Calls `body` with the front of the queue, at most 64 chunks.
  private func withBuffers<R>(_ body: (UnsafeMutableBufferPointer<uv_buf_t>) -> R) -> R {
    let count = Swift.min(queue.count, 64)
    return unsafe withUnsafeTemporaryAllocation(of: uv_buf_t.self, capacity: count) { buffers in
      for index in 0..<count {
        unsafe queue[index].withUnsafeBytes { bytes in
          let base = unsafe UnsafeMutableRawPointer(mutating: bytes.baseAddress!).assumingMemoryBound(to: CChar.self)
          unsafe buffers[index] = unsafe uv_buf_init(base, UInt32(clamping: bytes.count))
        }
      }
      return unsafe body(buffers)
    }
  }

  private func drop(_ count: Int) {
    queuedBytes -= count
    var left = count
    while left > 0, let first = queue.first {
      if first.count <= left {
        left -= first.count
        queue.removeFirst()
      } else {
        queue[0] = first.dropFirst(left)
        left = 0
      }
    }
  }

  /// Lets libuv write when the kernel has room. The chunks stay at the front of the queue, and so alive, until it has.
  private func writeRest() {
    let request = WriteRequest(stream: self, byteCount: queue.prefix(64).reduce(0) { $0 + $1.count })
    let status = unsafe withBuffers { buffers in
      unsafe uv_write(request.start(), handle, buffers.baseAddress, UInt32(buffers.count)) { request, status in
        unsafe WriteRequest.finish(request!, status: status)
      }
    }
    if status == 0 {
      isWriteInFlight = true
    } else {
      request.discard()
      failWriting(IOError("write", name, status: status))
    }
  }

  fileprivate func didWrite(_ count: Int, status: CInt) {
    uvLoop.turn {
      isWriteInFlight = false
      if status != 0 {
        if !isHandleClosed { failWriting(IOError("write", name, status: status)) }
        return
      }
      drop(count)
      if queue.isEmpty { didDrain() } else { flush() }
      if queuedBytes <= highWatermark / 2 { writer?.wake() }
    }
  }

  private func didDrain() {
    if case .closing = writeState { shutDown() }
  }

  private func failWriting(_ error: any Error) {
    let waiting: [@Sendable ((any Error)?) -> Void]
    if case .closing(let completions) = writeState { waiting = completions } else { waiting = [] }
    writeState = .failed(error)
    queue.removeAll()
    queuedBytes = 0
    for completion in waiting { completion(error) }
    writer?.wake()
    closeHandleIfDone()
  }
}

// MARK: ending

extension SocketStream {
  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    switch writeState {
    case .open:
      writeState = .closing([completion])
      writer?.wake()
      flush()
      if queue.isEmpty && !isWriteInFlight { didDrain() }
    case .closing(let completions): writeState = .closing(completions + [completion])
    case .closed: completion(nil)
    case .failed(let error): completion(error)
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

  fileprivate func didShutDown(status: CInt) {
    uvLoop.turn {
      guard case .closing(let completions) = writeState else { return }
      // ENOTCONN: the peer was faster. ENOTSOCK: a pipe or terminal has no half to shut down; it ends with its handle.
      let isFine = status == 0 || status == UV_ENOTCONN.rawValue || status == UV_ENOTSOCK.rawValue
      let error = isFine ? nil : IOError("shutdown", name, status: status)
      writeState = error.map { .failed($0) } ?? .closed
      for completion in completions { completion(error) }
      closeHandleIfDone()
    }
  }

  public func abort(_ reason: any Error) {
    uvLoop.perform { self.abortOnLoop(reason) }
  }

  private func abortOnLoop(_ reason: any Error) {
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

/// A libuv write under way: it keeps the stream, and so the queue with the bytes, alive.
@safe private final class WriteRequest {
  private let request = UnsafeMutablePointer<uv_write_t>.allocate(capacity: 1)
  private let stream: SocketStream
  private let byteCount: Int

  init(stream: SocketStream, byteCount: Int) {
    self.stream = stream
    self.byteCount = byteCount
  }

  deinit { unsafe request.deallocate() }

  func start() -> UnsafeMutablePointer<uv_write_t> {
    unsafe request.pointee.data = Unmanaged.passRetained(self).toOpaque()
    return unsafe request
  }

  func discard() { unsafe Unmanaged<WriteRequest>.fromOpaque(request.pointee.data).release() }

  static func finish(_ request: UnsafeMutablePointer<uv_write_t>, status: CInt) {
    let this = unsafe Unmanaged<WriteRequest>.fromOpaque(request.pointee.data).takeRetainedValue()
    this.stream.didWrite(this.byteCount, status: status)
  }
}

/// A libuv shutdown under way.
@safe private final class ShutdownRequest {
  private let request = UnsafeMutablePointer<uv_shutdown_t>.allocate(capacity: 1)
  private let stream: SocketStream

  init(stream: SocketStream) { self.stream = stream }

  deinit { unsafe request.deallocate() }

  func start() -> UnsafeMutablePointer<uv_shutdown_t> {
    unsafe request.pointee.data = Unmanaged.passRetained(self).toOpaque()
    return unsafe request
  }

  func discard() { unsafe Unmanaged<ShutdownRequest>.fromOpaque(request.pointee.data).release() }

  static func finish(_ request: UnsafeMutablePointer<uv_shutdown_t>, status: CInt) {
    let this = unsafe Unmanaged<ShutdownRequest>.fromOpaque(request.pointee.data).takeRetainedValue()
    this.stream.didShutDown(status: status)
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
