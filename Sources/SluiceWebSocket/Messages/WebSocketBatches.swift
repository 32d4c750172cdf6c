import SluiceStreams
import SluiceWebSocketProtocol

extension WebSocket {
  /// The messages that are there, several at a time: for a handler that has much to do with little ones.
  ///
  /// ```swift
  /// for try await batch in ws.batches {
  ///   for message in batch { print(message.text) }
  ///   try await ws.send(contentsOf: batch)
  /// }
  /// ```
  /// A batch has one message or more, in their order: what came with one read, up to the write watermark's number of bytes. Waiting is for the first of them,
  /// as in reading the connection itself. Messages above 16 KiB, or that came in parts or compressed, come alone.
  public var batches: Batches { Batches(socket: self) }

  /// See `WebSocket.batches`.
  @safe public final class Batches: ServedStream, @unchecked Sendable {  // has no state
    public typealias Output = Batch
    private let socket: WebSocket

    init(socket: WebSocket) { self.socket = socket }

    public var loop: any Loop { socket.loop }
    public var isOnLoop: Bool { socket.isOnLoop }
    public var isDry: Bool { socket.isDry }

    public func poll() throws -> Polled<Batch> { try socket.pollBatch() }
    public func attachReader(_ waker: any Waker) throws { try socket.attachReader(waker) }
    public func detachReader() { socket.detachReader() }
    public func cancel(_ reason: (any Error)?) { socket.cancel(reason) }

    @usableFromInline
    package func withReader<R>(_ body: (inout ReaderSlot) throws -> R) rethrows -> R { try socket.withReader(body) }

    @usableFromInline package var servingIdentity: TaskIdentity {
      get { socket.servingIdentity }
      set { socket.servingIdentity = newValue }
    }

    @usableFromInline
    package func willWaitWhileDry() { socket.willWaitWhileDry() }

    @usableFromInline
    package func takeReady() throws -> Batch? { nil }
  }

  /// Messages that came together, in memory that they share: each that is kept keeps all of it, up to 80 KiB, unless its `bytes` are `compacted()`.
  public struct Batch: Collection, Sendable {
    enum Content: Sendable {
      /// As frames of a server, each a whole message.
      case frames(Bytes)
      case message(Message)
    }
    let content: Content

    public struct Index: Comparable, Sendable {
      /// Bytes of the frames before it, or messages.
      fileprivate let offset: Int

      public static func < (left: Index, right: Index) -> Bool { left.offset < right.offset }
    }

    public var startIndex: Index { Index(offset: 0) }

    public var endIndex: Index {
      switch content {
      case .frames(let frames): Index(offset: frames.count)
      case .message: Index(offset: 1)
      }
    }

    public func index(after index: Index) -> Index {
      switch content {
      case .frames(let frames): Index(offset: Self.payload(of: frames, at: index.offset).upperBound)
      case .message: Index(offset: index.offset + 1)
      }
    }

    public subscript(index: Index) -> Message {
      switch content {
      case .frames(let frames):
        let payload = Self.payload(of: frames, at: index.offset)
        let start = frames.startIndex
        return Message(
          kind: frames[start + index.offset] & 0x0F == Opcode.text.rawValue ? .text : .binary,
          bytes: frames[start + payload.lowerBound..<start + payload.upperBound])
      case .message(let message):
        precondition(index.offset == 0, "index out of range")
        return message
      }
    }

    /// Where the payload of the frame lies that begins at `offset`: a whole one, below 64 KiB and without a mask.
    private static func payload(of frames: Bytes, at offset: Int) -> Range<Int> {
      let start = frames.startIndex + offset
      let length = Int(frames[start + 1])
      if length <= 125 { return offset + 2..<offset + 2 + length }
      return offset + 4..<offset + 4 + (Int(frames[start + 2]) << 8 | Int(frames[start + 3]))
    }
  }

  // MARK: reading

  private func pollBatch() throws -> Polled<Batch> {
    // What comes with a Close can still be answered: nothing is decoded behind the first thing that is no whole message.
    if isPlain, !machine.isObserved, isReading, !incoming.isDiscarding, incoming.ahead.isEmpty {
      if let polled = pollFrames() { return polled }
    }
    switch try poll() {
    case .element(let message): return .element(Batch(content: .message(detach(message))))
    case .pending: return .pending
    case .end: return .end
    }
  }

  /// Decodes whole messages as a relay does.
  /// - Returns: nil when something else comes first.
  private func pollFrames() -> Polled<Batch>? {
    incoming.hasBeenRead = true
    incoming.readCount &+= 1
    var frames = context.takeScratch()
    defer { context.giveBack(frames.move()) }
    if incoming.bytes.isEmpty {
      switch receiveChunk(lendingTo: { relay($0, to: &frames) }) {
      case .used: break
      case .chunk(let rest): feed(rest)
      case .pending: return .pending
      case .end: return nil
      }
    } else {
      let count = relay(incoming.bytes.span, to: &frames)
      if count == incoming.bytes.count { incoming.bytes = Bytes() } else { incoming.bytes.trimFirst(count) }
    }
    settleInput()
    if frames.isEmpty { return nil }
    note(.data)
    return .element(Batch(content: .frames(Bytes(copying: frames.span))))
  }

  private func relay(_ input: Span<UInt8>, to frames: inout BytesBuilder) -> Int {
    machine.relay(
      input, to: &frames, limit: Swift.min(Self.gatherLimit, options.maxMessageSize),
      highWatermark: options.writeHighWatermark, keys: nil)
  }

  // MARK: sending

  /// Sends messages one behind the other: see `send(_:)` of a message. Those of a batch leave as they came where nothing is to be done with them.
  ///
  /// Other tasks' messages may come between them. When it throws, those before the one that failed were sent.
  public func send(contentsOf batch: Batch, isolation actor: isolated (any Actor)? = #isolation) async throws {
    switch try beginSending(batch) {
    case .done: return
    case .full: try await waitInTurn(toSend: nil, isolation: actor)
    case .mustWait: for message in batch { try await send(message, isolation: actor) }
    }
  }

  /// Sends messages one behind the other: see `send(_:)` of a message.
  public func send(
    contentsOf messages: some Sequence<Message>, isolation actor: isolated (any Actor)? = #isolation
  ) async throws {
    for message in messages { try await send(message, isolation: actor) }
  }

  /// Sends the messages of a batch as the frames that they are; `mustWait` where that can't be, and they are to be sent one by one.
  private func beginSending(_ batch: Batch) throws -> SendStep {
    guard case .frames(let frames) = batch.content, isOnLoop, isOpen, isPlain, role == .server, !machine.isObserved,
      heldControls?.senders == nil
    else { return .mustWait }
    do {
      guard try hasRoomForMessage() else { return .mustWait }
      try gather { _, output in
        if frames.count > Self.gatherLimit { return frames }
        output.append(frames)
        return nil
      }
      note(.data)
      return try hasRoomAfterSending() ? .done : .full
    } catch { throw sendingFailure(error) }
  }
}
