/// A writable stream behind a transform. See `WritableStream.behind(_:)`.
public final class TransformedSink<T: Transform, Sink: WritableStream>: WritableStream
where T.Output == Sink.Input {
  public typealias Input = T.Input

  private let sink: Sink
  /// What the transform has given stays in it until the sink has taken it.
  private let stage: SharedStage<T>
  private let turn = WriteTurn()

  @usableFromInline
  init(_ stage: SharedStage<T>, _ sink: Sink) {
    self.sink = sink
    self.stage = stage
  }

  public func write(_ element: T.Input) async throws {
    try turn.begin()
    defer { turn.end() }
    if !stage.isSettled, try await !handOver() { throw StreamError.closed }
    do { try advance { _ = try $0.accept(element) } } catch {
      await endAfterOwnFailure(error)
      throw error
    }
    // From here on the element is taken: what is not handed over leaves before the next one.
    do { _ = try await handOver() } catch let error as CancellationError { if !Task.isCancelled { throw error } }
  }

  public func close() async throws {
    try await turn.beginWhenFree()
    defer { turn.end() }
    do {
      try advance { try $0.finish() }
      _ = try await handOver()
    } catch {
      await endAfterOwnFailure(error)
      throw error
    }
  }

  public func close(after failure: any Error) async throws {
    try await turn.beginWhenFree()
    defer { turn.end() }
    try stage.run { $0.fail(failure) }
    try await handOverHeld()
    try await sink.close(after: failure)
  }

  /// What was given before the transform failed arrives. The sink's own failure needs no end.
  private func endAfterOwnFailure(_ error: any Error) async {
    guard hasFailed, (try? await handOverHeld()) != nil else { return }
    try? await sink.close(after: error)
  }

  /// Writes what was given before a failure.
  private func handOverHeld() async throws {
    while case .element(let element)? = try? next() { try await sink.write(element) }
  }

  public func abort(_ reason: any Error) {
    stage.drop(reason)
    sink.abort(reason)
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
          stage.putBack(element)
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

  private func next() throws -> TransformStage<T>.Next { try stage.next() }

  private func advance(_ step: (inout TransformStage<T>) throws -> Void) throws { try stage.run(step) }
}

extension TransformedSink: LoopBound where Sink: LoopBound {
  public var loop: any Loop { sink.loop }
}

extension TransformedSink: PolledWritableStream where Sink: PolledWritableStream {
  public var queuedByteCount: Int { sink.queuedByteCount }
  public var deliveredByteCount: Int? { sink.deliveredByteCount }
  public func flush() { sink.flush() }
  public func attachWriter(_ waker: any Waker) throws { try sink.attachWriter(waker) }
  public func detachWriter() { sink.detachWriter() }

  /// What the transform still has for the sink comes before the next element: it is given as there is room for it.
  public func hasRoom() throws -> Bool {
    assertOnLoop()
    if stage.isSettled { return try sink.hasRoom() }
    return switch try pushReady(aboveWatermark: false) {
    case .needsInput: true
    case .hasMore: false
    case .ended: throw StreamError.closed
    }
  }

  public func push(_ element: consuming T.Input) throws {
    assertOnLoop()
    if !stage.isSettled, case .ended = try pushReady(aboveWatermark: true) { throw StreamError.closed }
    switch try stage.pass(element, { try sink.push($0) }) {
    case .settled: break
    case .hasMore, .ended: _ = try pushReady(aboveWatermark: false)
    case .failed(let error):
      pushHeld()
      sink.closeWhenFlushed(after: error) { _ in }
      throw error
    }
  }

  /// As `handOverHeld`. A sink that fails meanwhile says so when it is closed.
  private func pushHeld() {
    while case .element(let element)? = try? next() { try? sink.push(element) }
  }

  private enum Readiness {
    case needsInput
    /// There is no room for what the transform has.
    case hasMore
    case ended
  }

  /// As `handOver`, while there is room, or however much it is.
  private func pushReady(aboveWatermark: Bool) throws -> Readiness {
    while true {
      if !aboveWatermark, try !sink.hasRoom() { return .hasMore }
      switch try next() {
      case .element(let element): try sink.push(element)
      case .needsStart: try advance { _ = try $0.start() }
      case .needsInput: return .needsInput
      case .end:
        sink.closeWhenFlushed { _ in }
        return .ended
      }
    }
  }

  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    do {
      try advance { try $0.finish() }
      _ = try pushReady(aboveWatermark: true)
    } catch StreamError.closed {
      // Closed already is success.
    } catch {
      pushHeld()
      return sink.closeWhenFlushed(after: error) { _ in completion(error) }
    }
    sink.closeWhenFlushed(completion)
  }

  public func closeWhenFlushed(after failure: any Error, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    try? stage.run { $0.fail(failure) }
    pushHeld()
    sink.closeWhenFlushed(after: failure, completion)
  }
}

/// A sink that may fail by what is written to it, though what is beneath can still take what came before.
package protocol SelfFailing {
  var hasFailed: Bool { get }
}

extension TransformedSink: SelfFailing {
  package var hasFailed: Bool { stage.failure != nil }
}

extension WritableStream {
  /// This stream behind a transform: what is written to the result comes here transformed.
  ///
  /// What the transform throws ends this stream behind what was given before, by `close(after:)`, and is thrown by every write from then on. When the transform ends by
  /// itself, this stream is closed, and writing throws `StreamError.closed`: a pipe cancels its source then.
  ///
  /// ```swift
  /// try await names.pipe(File.create("names").behind(LineEncoder()))
  /// ```
  // Always inlined: the type of the transform is known where this is called, that of the stream often not.
  @inlinable
  @inline(__always)
  public func behind<T: Transform>(_ transform: T) -> TransformedSink<T, Self> where T.Output == Input {
    TransformedSink(SharedStage(transform), self)
  }
}
