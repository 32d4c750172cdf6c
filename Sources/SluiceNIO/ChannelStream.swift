#if NIO
  import DequeModule
  import NIOCore
  import NIOHTTP1
  import SluiceStreams

  #if canImport(Glibc)
    import Glibc
  #elseif canImport(Musl)
    import Musl
  #else
    import Darwin
  #endif

  /// A SwiftNIO channel as a duplex stream of bytes, on the channel's own event loop: the last handler of its pipeline.
  ///
  /// ```swift
  /// let stream = try await ChannelStream.add(to: channel).get()
  /// let ws = try await WebSocket.accept(over: stream)
  /// ```
  /// What is not read stays in the kernel: the channel reads when it is asked to (`autoRead` is switched off). A write waits while the channel
  /// is not writable, by its own water marks. What is read is not copied; what is written is, into the buffers that NIO takes.
  public final class ChannelStream: PolledDuplexStream, ReaderHolding, WriterHolding, GatheringSink,
    @unchecked Sendable
  {
    // touched on its loop only
    public typealias Output = Bytes
    public typealias Input = Bytes

    private let channel: any Channel
    private let nioLoop: NIOLoop
    private let content: Content
    /// Where it stands in the pipeline; nil when it stands there no more.
    private var context: ChannelHandlerContext?
    private var arrived = Deque<Bytes>()
    private var isReading = false
    private var readEnd: ReadEnd?
    private var reader = ReaderSlot()
    private var writeState = WriteHalf.open
    package var writer = RoomWaiters.nobody
    private var isFlushed = true
    @usableFromInline package var isFlushScheduled = false

    /// What the pipeline takes.
    enum Content {
      case bytes
      /// The body of the one response that is under way; nothing comes back.
      case responseBody
    }
    private enum ReadEnd {
      case ended
      case failed(any Error)
    }

    private init(_ channel: any Channel) {
      self.channel = channel
      content = .bytes
      nioLoop = .of(channel.eventLoop)
    }

    /// Writes the body of a response from a handler's place on, to which the channel's events are to be passed.
    init(responseBodyFrom context: ChannelHandlerContext) {
      channel = context.channel
      content = .responseBody
      self.context = context
      nioLoop = .of(context.eventLoop)
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

    /// Ends HTTP on a channel behind a response that is written already: a stream takes the place of the codec. On the event loop.
    /// - Parameter context: Of the handler behind the codec. It is told of nothing that is read any more.
    package static func takingOver(from context: ChannelHandlerContext) throws -> ChannelStream {
      context.writeAndFlush(NIOAny(HTTPServerResponsePart.end(nil)), promise: nil)
      let pipeline = context.pipeline.syncOperations
      let stream = ChannelStream(context.channel)
      try pipeline.addHandler(Tap(stream), position: .before(context.handler))
      pipeline.removeHandler(try pipeline.handler(type: HTTPResponseEncoder.self), promise: nil)
      pipeline.removeHandler(try pipeline.handler(type: ByteToMessageHandler<HTTPRequestDecoder>.self), promise: nil)
      try context.channel.syncOptions?.setOption(.autoRead, value: false)
      // The decoder leaves in a turn of its own, and passes on what it has not read.
      context.eventLoop.execute { stream.didReadAll() }
      return stream
    }

    /// Writes the body of a response whose head is written already, and which is the channel's last. On the event loop.
    /// - Parameters:
    ///   - context: Of a handler behind the codec. It is told of no further requests.
    ///   - isRequestOpen: Whether the end of the request is still to come.
    package static func writingBody(
      from context: ChannelHandlerContext, isRequestOpen: Bool
    ) throws -> ChannelStream {
      let tap = BodyTap(isRequestOpen: isRequestOpen)
      context.flush()
      try context.pipeline.syncOperations.addHandler(tap, position: .before(context.handler))
      guard let stream = tap.stream else { throw ChannelError.ioOnClosedChannel }
      return stream
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
        if let context { context.read() } else { channel.read() }
        // An embedded channel answers at once.
        if let chunk = arrived.popFirst() { return .element(chunk) }
      }
      return .pending
    }

    public var isDry: Bool { arrived.isEmpty && readEnd == nil && isReading }

    // MARK: what a handler passes on

    fileprivate func isAdded(_ context: ChannelHandlerContext) { self.context = context }

    func isRemoved() {
      context = nil
      didBecomeInactive()
    }

    fileprivate func didRead(_ buffer: ByteBuffer) {
      guard readEnd == nil else { return }
      // Without a copy: a `ByteBuffer` makes one before it writes to memory that somebody else holds.
      let bytes = unsafe buffer.withUnsafeReadableBytesWithStorageManagement { memory, storage in
        unsafe Bytes(memory, of: storage.takeUnretainedValue(), size: buffer.storageCapacity)
      }
      arrived.append(bytes)
    }

    func didReadAll() {
      isReading = false
      tellReader()
    }

    fileprivate func inputDidEnd(_ error: (any Error)?) {
      guard readEnd == nil else { return }
      readEnd = error.map { .failed($0) } ?? .ended
      tellReader()
      closeIfDone()
    }

    @usableFromInline
    package func withReader<R>(_ body: (inout ReaderSlot) throws -> R) rethrows -> R { try body(&reader) }

    public func cancel(_ reason: (any Error)?) {
      nioLoop.perform {
        self.arrived.removeAll()
        self.inputDidEnd(nil)
      }
    }

    // MARK: writing

    public func hasRoom() throws -> Bool {
      guard case .open = writeState else { throw writeState.refusal }
      return channel.isWritable
    }

    public var queuedByteCount: Int {
      guard let count = try? channel.syncOptions?.getOption(.bufferedWritableBytes) else { return 0 }
      return count
    }

    public func push(_ bytes: consuming Bytes) throws {
      guard case .open = writeState else { throw writeState.refusal }
      if bytes.isEmpty { return }
      isFlushed = false
      context?.write(part(bytes.span), promise: nil)
      flushAtEndOfTurn()
    }

    /// What is written is copied anyway.
    public func sendAtOnce(_ bytes: Span<UInt8>) -> Int {
      guard case .open = writeState, let context, !bytes.isEmpty else { return 0 }
      isFlushed = true
      context.writeAndFlush(part(bytes), promise: nil)
      return bytes.count
    }

    private func part(_ bytes: Span<UInt8>) -> NIOAny {
      var buffer = channel.allocator.buffer(capacity: bytes.count)
      _ = unsafe bytes.withUnsafeBytes { unsafe buffer.writeBytes($0) }
      switch content {
      case .bytes: return NIOAny(buffer)
      case .responseBody: return NIOAny(HTTPServerResponsePart.body(.byteBuffer(buffer)))
      }
    }

    public func flush() {
      guard !isFlushed else { return }
      isFlushed = true
      context?.flush()
    }

    func writabilityDidChange() {
      if channel.isWritable { writer.wake() }
    }

    // MARK: ending

    public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
      close(afterFailure: false, completion)
    }

    /// A response without its end, so that the client does not take what it got for everything; of other bytes, an ordinary end.
    public func closeWhenFlushed(after failure: any Error, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
      close(afterFailure: true, completion)
    }

    private func close(afterFailure: Bool, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
      switch writeState.close(completion) {
      case .begin: break
      case .wait: return
      case .done(let error): return completion(error)
      }
      isFlushed = true
      guard let context else { return didClose(StreamError.closed) }
      endOutput(context, afterFailure: afterFailure).whenComplete { result in
        switch result {
        case .success: self.didClose(nil)
        case .failure(let error): self.didClose(error)
        }
      }
    }

    /// Ends this half, behind all that was written.
    private func endOutput(_ context: ChannelHandlerContext, afterFailure: Bool) -> EventLoopFuture<Void> {
      let written = context.eventLoop.makePromise(of: Void.self)
      let channel = channel
      switch content {
      case .responseBody where afterFailure:
        context.writeAndFlush(part(Bytes().span), promise: written)
        return written.futureResult.flatMap { channel.close(mode: .all) }
      case .responseBody:
        context.writeAndFlush(NIOAny(HTTPServerResponsePart.end(nil)), promise: written)
        return written.futureResult
      case .bytes:
        // An empty write is done when all before it has left.
        context.writeAndFlush(part(Bytes().span), promise: written)
        return written.futureResult.flatMap {
          // A channel without halves is closed as a whole, once the peer has ended too.
          channel.close(mode: .output).flatMapError { error in
            error is ChannelError
              ? channel.eventLoop.makeSucceededVoidFuture() : channel.eventLoop.makeFailedFuture(error)
          }
        }
      }
    }

    private func didClose(_ error: (any Error)?) {
      guard case .closing = writeState else { return }
      let waiting = writeState.end(error)
      closeIfDone()
      for completion in waiting { completion(error) }
      writer.wake()
    }

    public func abort(_ reason: any Error) {
      nioLoop.perform {
        self.fail(reason)
        // RST rather than FIN: the peer must not take what it got for everything.
        _ = (self.channel as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
        self.channel.close(mode: .all, promise: nil)
      }
    }

    /// Both halves have failed.
    func fail(_ error: any Error) {
      if readEnd == nil { readEnd = .failed(error) }
      switch writeState {
      case .open: _ = writeState.end(error)
      case .closing: didClose(error)
      case .closed, .failed: break
      }
      tellReader()
      writer.wake()
    }

    /// The channel is gone.
    func didBecomeInactive() {
      inputDidEnd(nil)
      // A close that is under way hears from NIO how it went: the end of the second half ends the channel.
      if case .closing = writeState { return }
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

  extension ChannelStream: PeerEndWatching {
    /// NIO reads to the end by itself when the peer has ended.
    package var hasPeerEnded: Bool { readEnd != nil }
  }

  extension ChannelStream: TransportDescribing {
    package var peerAddress: SluiceStreams.SocketAddress? { .init(channel.remoteAddress) }
    package var localAddress: SluiceStreams.SocketAddress? { .init(channel.localAddress) }
  }

  extension SluiceStreams.SocketAddress {
    /// - Returns: nil for one of a Unix socket, or none.
    fileprivate init?(_ address: NIOCore.SocketAddress?) {
      guard let address, let ipAddress = address.ipAddress.flatMap({ IPAddress($0) }), let port = address.port else {
        return nil
      }
      self.init(ipAddress, port: port)
    }
  }

  /// The end of a pipeline, from where bytes go to a stream.
  private final class Tap: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let stream: ChannelStream

    init(_ stream: ChannelStream) { self.stream = stream }

    func handlerAdded(context: ChannelHandlerContext) { stream.isAdded(context) }

    func handlerRemoved(context: ChannelHandlerContext) { stream.isRemoved() }

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

  /// In front of a handler that has written the head of a response: what the channel tells goes to the stream of the body.
  private final class BodyTap: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart

    private(set) var stream: ChannelStream?
    private var isRequestOpen: Bool

    init(isRequestOpen: Bool) { self.isRequestOpen = isRequestOpen }

    func handlerAdded(context: ChannelHandlerContext) { stream = ChannelStream(responseBodyFrom: context) }

    func handlerRemoved(context: ChannelHandlerContext) {
      stream?.isRemoved()
      stream = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      guard isRequestOpen else { return }
      if case .end = unwrapInboundIn(data) { isRequestOpen = false }
      context.fireChannelRead(data)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
      stream?.didReadAll()
      context.fireChannelReadComplete()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
      stream?.writabilityDidChange()
      context.fireChannelWritabilityChanged()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
      if case .inputClosed? = event as? ChannelEvent { stream?.inputDidEnd(nil) }
      context.fireUserInboundEventTriggered(event)
    }

    func channelInactive(context: ChannelHandlerContext) {
      stream?.didBecomeInactive()
      context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
      stream?.fail(error)
      context.fireErrorCaught(error)
    }
  }
#endif
