#if NIO
  import DequeModule
  import NIOCore
  import SluiceStreams

  /// A SwiftNIO channel as a duplex stream of bytes, on the channel's own event loop: the last handler of its pipeline.
  ///
  /// ```swift
  /// let stream = try await ChannelStream.add(to: channel).get()
  /// let ws = try await WebSocket.accept(over: stream)
  /// ```
  /// What is not read stays in the kernel: the channel reads when it is asked to (`autoRead` is switched off). A write waits while the channel
  /// is not writable, by its own water marks.
  public final class ChannelStream: PolledDuplexStream, @unchecked Sendable {  // touched on its loop only
    public typealias Output = Bytes
    public typealias Input = Bytes

    private let channel: any Channel
    private let nioLoop: NIOLoop
    private var arrived = Deque<Bytes>()
    private var isReading = false
    private var readEnd: ReadEnd?
    private var reader: (any Waker)?
    private var writeState = WriteState.open
    private var writer: (any Waker)?
    private var isFlushed = true

    private enum ReadEnd {
      case ended
      case failed(any Error)
    }
    private enum WriteState {
      case open
      case closing([@Sendable ((any Error)?) -> Void])
      case closed
      case failed(any Error)
    }

    private init(_ channel: any Channel) {
      self.channel = channel
      nioLoop = .of(channel.eventLoop)
    }

    /// Adds a stream behind the handlers of a channel's pipeline, whose last one gives and takes `ByteBuffer`.
    public static func add(to channel: any Channel) -> EventLoopFuture<ChannelStream> {
      channel.eventLoop.submit { ChannelStream(channel) }.flatMap { stream in
        channel.setOption(.autoRead, value: false).flatMap {
          // Not every channel has halves.
          channel.setOption(.allowRemoteHalfClosure, value: true).recover { _ in }
        }.flatMapThrowing {
          try channel.pipeline.syncOperations.addHandler(Tap(stream))
          return stream
        }
      }
    }

    public var loop: any Loop { nioLoop }

    // MARK: reading

    public func poll() throws -> Polled<Bytes> {
      if let chunk = arrived.popFirst() { return .element(chunk) }
      switch readEnd {
      case .ended: return .end
      case .failed(let error): throw error
      case nil: break
      }
      if !isReading {
        isReading = true
        channel.read()
        // An embedded channel answers at once.
        if let chunk = arrived.popFirst() { return .element(chunk) }
      }
      return .pending
    }

    fileprivate func didRead(_ buffer: ByteBuffer) {
      if readEnd == nil { arrived.append(Bytes(copying: buffer.readableBytesUInt8Span)) }
    }

    fileprivate func didReadAll() {
      isReading = false
      reader?.wake()
    }

    fileprivate func inputDidEnd(_ error: (any Error)?) {
      guard readEnd == nil else { return }
      readEnd = error.map { .failed($0) } ?? .ended
      reader?.wake()
      closeIfDone()
    }

    public func attachReader(_ waker: any Waker) throws {
      guard reader == nil else { throw StreamError.concurrentRead }
      reader = waker
    }

    public var hasReader: Bool { reader != nil }

    public func detachReader() { reader = nil }

    public func cancel(_ reason: (any Error)?) {
      nioLoop.perform {
        self.arrived.removeAll()
        self.inputDidEnd(nil)
      }
    }

    // MARK: writing

    public func hasRoom() throws -> Bool {
      switch writeState {
      case .open: return channel.isWritable
      case .closing, .closed: throw StreamError.closed
      case .failed(let error): throw error
      }
    }

    public var needsFlush: Bool { !isFlushed }

    public var queuedByteCount: Int {
      guard let count = try? channel.syncOptions?.getOption(.bufferedWritableBytes) else { return 0 }
      return count
    }

    public func push(_ bytes: consuming Bytes) throws {
      guard case .open = writeState else {
        _ = try hasRoom()
        return
      }
      if bytes.isEmpty { return }
      isFlushed = false
      channel.write(buffer(bytes), promise: nil)
    }

    private func buffer(_ bytes: Bytes) -> ByteBuffer {
      var buffer = channel.allocator.buffer(capacity: bytes.count)
      _ = unsafe bytes.withUnsafeBytes { unsafe buffer.writeBytes($0) }
      return buffer
    }

    public func flush() {
      guard !isFlushed else { return }
      isFlushed = true
      channel.flush()
    }

    fileprivate func writabilityDidChange() {
      if channel.isWritable { writer?.wake() }
    }

    public func attachWriter(_ waker: any Waker) throws {
      guard writer == nil else { throw StreamError.concurrentWrite }
      writer = waker
    }

    public func detachWriter() { writer = nil }

    // MARK: ending

    public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
      switch writeState {
      case .closing(let completions):
        writeState = .closing(completions + [completion])
        return
      case .closed: return completion(nil)
      case .failed(let error): return completion(error)
      case .open: break
      }
      writeState = .closing([completion])
      isFlushed = true
      let channel = channel
      // An empty write is done when all before it has left.
      channel.writeAndFlush(channel.allocator.buffer(capacity: 0)).flatMap {
        // A channel without halves is closed as a whole, once the peer has ended too.
        channel.close(mode: .output).flatMapError { error in
          error is ChannelError
            ? channel.eventLoop.makeSucceededVoidFuture() : channel.eventLoop.makeFailedFuture(error)
        }
      }.whenComplete { result in
        switch result {
        case .success: self.didClose(nil)
        case .failure(let error): self.didClose(error)
        }
      }
    }

    private func didClose(_ error: (any Error)?) {
      guard case .closing(let completions) = writeState else { return }
      writeState = error.map { .failed($0) } ?? .closed
      closeIfDone()
      for completion in completions { completion(error) }
      writer?.wake()
    }

    public func abort(_ reason: any Error) {
      nioLoop.perform {
        self.fail(reason)
        self.channel.close(mode: .all, promise: nil)
      }
    }

    /// Both halves have failed.
    fileprivate func fail(_ error: any Error) {
      if readEnd == nil { readEnd = .failed(error) }
      switch writeState {
      case .open: writeState = .failed(error)
      case .closing: didClose(error)
      case .closed, .failed: break
      }
      reader?.wake()
      writer?.wake()
    }

    /// The channel is gone.
    fileprivate func didBecomeInactive() {
      inputDidEnd(nil)
      fail(StreamError.closed)
    }

    private func closeIfDone() {
      guard readEnd != nil else { return }
      switch writeState {
      case .closed, .failed: channel.close(mode: .all, promise: nil)
      case .open, .closing: break
      }
    }
  }

  /// The end of a pipeline, from where bytes go to a stream.
  private final class Tap: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let stream: ChannelStream

    init(_ stream: ChannelStream) { self.stream = stream }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { stream.didRead(unwrapInboundIn(data)) }

    func channelReadComplete(context: ChannelHandlerContext) { stream.didReadAll() }

    func channelWritabilityChanged(context: ChannelHandlerContext) { stream.writabilityDidChange() }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
      if case .inputClosed? = event as? ChannelEvent { stream.inputDidEnd(nil) }
      context.fireUserInboundEventTriggered(event)
    }

    func channelInactive(context: ChannelHandlerContext) {
      stream.didBecomeInactive()
      context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
      stream.fail(error)
      context.close(promise: nil)
    }
  }
#endif
