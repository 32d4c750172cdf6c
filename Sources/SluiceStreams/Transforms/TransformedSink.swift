import Synchronization

/// A writable stream behind a transform. See `WritableStream.behind(_:)`.
public final class TransformedSink<T: Transform, Sink: WritableStream>: WritableStream
where T.Output == Sink.Input {
  public typealias Input = T.Input

  private let sink: Sink
  private let state: Mutex<State>

  private struct State {
    /// What the transform has given stays in it until the sink has taken it.
    var stage: TransformStage<T>
    var isWriting = false
  }

  init(_ transform: T, _ sink: Sink) {
    self.sink = sink
    state = Mutex(State(stage: TransformStage(transform)))
  }

  public func write(_ element: T.Input) async throws {
    try beginWriting()
    defer { state.withLock { $0.isWriting = false } }
    guard try await handOver() else { throw StreamError.closed }
    try advance { _ = try $0.accept(element) }
    // From here on the element is taken: what is not handed over leaves before the next one.
    do { _ = try await handOver() } catch let error as CancellationError { if !Task.isCancelled { throw error } }
  }

  public func close() async throws {
    try beginWriting()
    defer { state.withLock { $0.isWriting = false } }
    try advance { try $0.finish() }
    _ = try await handOver()
  }

  public func abort(_ reason: any Error) {
    state.withLock { $0.stage.drop(reason) }
    sink.abort(reason)
  }

  private func beginWriting() throws {
    try state.withLock { state in
      if state.isWriting { throw StreamError.concurrentWrite }
      state.isWriting = true
    }
  }

  /// Writes what the transform has given; closes the sink if nothing will follow.
  /// - Returns: whether more can follow.
  private func handOver() async throws -> Bool {
    while true {
      switch try next() {
      case .element(let element):
        do {
          try await sink.write(element)
        } catch {
          state.withLock { $0.stage.putBack(element) }
          throw error
        }
      case .needsStart: try advance { _ = try $0.start() }
      case .needsInput: return true
      case .end:
        try await sink.close()
        return false
      }
    }
  }

  private func next() throws -> TransformStage<T>.Next { try state.withLock { try $0.stage.next() } }

  /// Runs the transform. The sink is aborted if that throws.
  private func advance(_ step: (inout TransformStage<T>) throws -> Void) throws {
    do { try state.withLock { try step(&$0.stage) } } catch {
      abort(error)
      throw error
    }
  }
}

extension TransformedSink: EndOfTurn where Sink: PolledWritableStream {}

extension TransformedSink: LoopBound where Sink: LoopBound {
  public var loop: any Loop { sink.loop }
}

extension TransformedSink: PolledWritableStream where Sink: PolledWritableStream {
  public var needsFlush: Bool { sink.needsFlush }
  public var queuedByteCount: Int { sink.queuedByteCount }
  public func flush() { sink.flush() }
  public func attachWriter(_ waker: any Waker) throws { try sink.attachWriter(waker) }
  public func detachWriter() { sink.detachWriter() }

  public func hasRoom() throws -> Bool {
    guard try pushReady() else { throw StreamError.closed }
    return try sink.hasRoom()
  }

  public func push(_ element: consuming T.Input) throws {
    guard try pushReady() else { throw StreamError.closed }
    // The closure of a lock can't consume what it captures; the box is emptied inside.
    var box = Optional(element)
    try advance { stage in if let element = box.take() { _ = try stage.accept(element) } }
    _ = try pushReady()
  }

  /// As `handOver`.
  private func pushReady() throws -> Bool {
    while true {
      switch try next() {
      case .element(let element): try sink.push(element)
      case .needsStart: try advance { _ = try $0.start() }
      case .needsInput: return true
      case .end:
        sink.closeWhenFlushed { _ in }
        return false
      }
    }
  }

  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    do {
      try advance { try $0.finish() }
      _ = try pushReady()
    } catch StreamError.closed {
      // Closed already is success.
    } catch {
      return completion(error)
    }
    sink.closeWhenFlushed(completion)
  }
}

extension WritableStream {
  /// This stream behind a transform: what is written to the result comes here transformed.
  ///
  /// What the transform throws aborts this stream, and is thrown by every write from then on. When the transform ends by
  /// itself, this stream is closed, and writing throws `StreamError.closed`: a pipe cancels its source then.
  ///
  /// ```swift
  /// try await names.pipe(File.create("names").behind(LineEncoder()))
  /// ```
  public func behind<T: Transform>(_ transform: T) -> TransformedSink<T, Self> where T.Output == Input {
    TransformedSink(transform, self)
  }
}
