extension DuplexStream where Output == Bytes, Input == Bytes {
  /// This byte stream in the polled gear, for what needs that: TLS or a WebSocket over a stream of your own.
  ///
  /// ```swift
  /// let ws = try await WebSocket.accept(over: tunnel.polled(on: UVLoop.shared))
  /// ```
  /// - Parameter loop: Where a stream of the simple gear is to live. One that lives on a loop already stays there, and is returned as it is.
  public func polled(on loop: any Loop) -> any PolledDuplexStream<Bytes, Bytes> {
    self as? any PolledDuplexStream<Bytes, Bytes> ?? LoopStream(self, on: loop)
  }
}

/// A byte stream of the simple gear that lives on a loop, and so has the polled gear.
///
/// It reads no further than it is asked to: one chunk, as large as the other stream makes it, may wait. Up to
/// `highWatermark` bytes wait to be written, and the chunk that passes it; one write of the other stream is under way at a time. A task of the loop runs
/// only while the other stream is read or written: close, abort, or read to the end and close, and nothing stays.
public final class LoopStream<Base: DuplexStream>: PolledDuplexStream, ReaderHolding, WriterHolding, @unchecked Sendable
where Base.Output == Bytes, Base.Input == Bytes {
  // `base`, `loop` and the marks never change; everything else is touched on the loop only.
  public typealias Output = Bytes
  public typealias Input = Bytes

  private let base: Base
  public let loop: any Loop
  /// Bytes that may wait to be written before a write waits, 1 or more.
  public var highWatermark: Int { watermark.high }

  private var readState = ReadState.idle
  private var writeState = WriteHalf.open
  /// Why the writing ends, where its source failed.
  private var sourceFailure: (any Error)?
  private var reading: Task<Void, Never>?
  private var writing: Task<Void, Never>?
  private var queue = ByteQueue()
  private var watermark: Watermark
  private var reader = ReaderSlot()
  package var writer = RoomWaiters.nobody

  private enum ReadState {
    /// Nobody has asked for more.
    case idle
    /// A read of the base is under way.
    case reading
    case held(Bytes)
    case ended
    case failed(any Error)
  }

  /// - Parameter highWatermark: Bytes. Default: 64 KiB.
  public init(_ base: Base, on loop: any Loop, highWatermark: Int = 64 << 10) {
    self.base = base
    self.loop = loop
    watermark = Watermark(high: highWatermark)
  }

  public var endsAsOne: Bool { base.endsAsOne }

  // MARK: reading

  public func poll() throws -> Polled<Bytes> {
    assertOnLoop()
    switch readState {
    case .idle:
      readState = .reading
      if reading == nil { reading = Task(executorPreference: loop) { await self.readWhileWanted() } }
      return .pending
    case .reading: return .pending
    case .held(let bytes):
      readState = .idle
      return .element(bytes)
    case .ended: return .end
    case .failed(let error): throw error
    }
  }

  public var isDry: Bool {
    if case .reading = readState { true } else { false }
  }

  private func readWhileWanted() async {
    while case .reading = readState {
      let next: Result<Bytes?, any Error>
      do { next = .success(try await base.read()) } catch { next = .failure(error) }
      didRead(next)
      // A base that always has something must not keep the loop to itself.
      await Task.yield()
    }
    reading = nil
  }

  private func didRead(_ next: Result<Bytes?, any Error>) {
    // Cancelled or aborted meanwhile.
    guard case .reading = readState else {
      Reached.mark("loopStream.readBehindEnd")
      return
    }
    switch next {
    case .success(let bytes?): readState = .held(bytes)
    case .success(nil): readState = .ended
    case .failure(let error): readState = .failed(error)
    }
    tellReader()
  }

  @usableFromInline
  package func withReader<R>(_ body: (inout ReaderSlot) throws -> R) rethrows -> R { try body(&reader) }

  public func cancel(_ reason: (any Error)?) {
    loop.perform {
      self.endReading(.ended)
      self.base.cancel(reason)
    }
  }

  private func endReading(_ end: ReadState) {
    switch readState {
    case .idle, .reading, .held: readState = end
    case .ended, .failed: break
    }
    reading?.cancel()
    tellReader()
  }

  // MARK: writing

  public func hasRoom() throws -> Bool {
    assertOnLoop()
    guard case .open = writeState else { throw writeState.refusal }
    return watermark.hasRoom(queued: queue.count)
  }

  public var queuedByteCount: Int { queue.count }

  public func push(_ bytes: consuming Bytes) throws {
    assertOnLoop()
    guard case .open = writeState else { throw writeState.refusal }
    // No write of the other stream is done within the turn.
    queue.appendSettled(bytes)
    if !queue.isEmpty { startWriting() }
  }

  /// What was pushed is on its way.
  public func flush() {}

  private func startWriting() {
    if writing == nil { writing = Task(executorPreference: loop) { await self.writeQueued() } }
  }

  private func writeQueued() async {
    do {
      // What is being written counts until it is; an abort empties the queue meanwhile.
      while let bytes = queue.front(limit: 1).first {
        try await base.write(bytes)
        if queue.isEmpty { break }
        queue.dropFirst(bytes.count)
        if watermark.isReached(queued: queue.count) { writer.wake() }
      }
      if case .closing = writeState {
        if let sourceFailure { try await base.close(after: sourceFailure) } else { try await base.close() }
        finish(nil)
      }
    } catch {
      finish(error)
    }
    writing = nil
  }

  // MARK: ending

  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    switch writeState.close(completion) {
    case .begin:
      writer.wake()
      startWriting()
    case .wait: break
    case .done(let error): completion(error)
    }
  }

  public func closeWhenFlushed(after failure: any Error, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    if case .open = writeState { sourceFailure = failure }
    closeWhenFlushed(completion)
  }

  private func finish(_ error: (any Error)?) {
    switch writeState {
    case .open, .closing: break
    case .closed, .failed: return
    }
    let waiting = writeState.end(error)
    queue.removeAll()
    for completion in waiting { completion(error) }
    writer.wake()
  }

  public func abort(_ reason: any Error) {
    loop.perform {
      self.finish(reason)
      self.writing?.cancel()
      self.endReading(.failed(reason))
      self.base.abort(reason)
      self.base.cancel(reason)
    }
  }
}
