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
    do { try advance { _ = try $0.accept(element) } } catch {
      await endAfterOwnFailure(error)
      throw error
    }
    // From here on the element is taken: what is not handed over leaves before the next one.
    do { _ = try await handOver() } catch let error as CancellationError { if !Task.isCancelled { throw error } }
  }

  public func close() async throws {
    try beginWriting()
    defer { state.withLock { $0.isWriting = false } }
    do {
      try advance { try $0.finish() }
      _ = try await handOver()
    } catch {
      await endAfterOwnFailure(error)
      throw error
    }
  }

  public func close(after failure: any Error) async throws {
    try beginWriting()
    defer { state.withLock { $0.isWriting = false } }
    state.withLock { $0.stage.fail(failure) }
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

  private func advance(_ step: (inout TransformStage<T>) throws -> Void) throws {
    try state.withLock { try step(&$0.stage) }
  }
}

extension TransformedSink: EndOfTurn where Sink: PolledWritableStream {}

extension TransformedSink: LoopBound where Sink: LoopBound {
  public var loop: any Loop { sink.loop }
}

extension TransformedSink: PolledWritableStream where Sink: PolledWritableStream {
  public var needsFlush: Bool { sink.needsFlush }
  public var queuedByteCount: Int { sink.queuedByteCount }
  public var deliveredByteCount: Int? { sink.deliveredByteCount }
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
    do { try advance { stage in if let element = box.take() { _ = try stage.accept(element) } } } catch {
      pushHeld()
      sink.closeWhenFlushed(after: error) { _ in }
      throw error
    }
    _ = try pushReady()
  }

  /// As `handOverHeld`. A sink that fails meanwhile says so when it is closed.
  private func pushHeld() {
    while case .element(let element)? = try? next() { try? sink.push(element) }
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
      pushHeld()
      return sink.closeWhenFlushed(after: error) { _ in completion(error) }
    }
    sink.closeWhenFlushed(completion)
  }

  public func closeWhenFlushed(after failure: any Error, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    state.withLock { $0.stage.fail(failure) }
    pushHeld()
    sink.closeWhenFlushed(after: failure, completion)
  }
}

/// A sink that may fail by what is written to it, though what is beneath can still take what came before.
package protocol SelfFailing {
  var hasFailed: Bool { get }
}

extension TransformedSink: SelfFailing {
  package var hasFailed: Bool { state.withLock { $0.stage.failure != nil } }
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
  public func behind<T: Transform>(_ transform: T) -> TransformedSink<T, Self> where T.Output == Input {
    TransformedSink(transform, self)
  }
}
