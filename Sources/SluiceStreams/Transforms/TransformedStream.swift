/// A readable stream seen through a transform. See `ReadableStream.pipe(through:)`.
public final class TransformedStream<Source: ReadableStream, T: Transform>: ReadableStream
where T.Input == Source.Output {
  public typealias Output = T.Output

  let source: Source
  private let stage: SharedStage<T>

  @usableFromInline
  init(_ source: Source, _ stage: SharedStage<T>) {
    self.source = source
    self.stage = stage
  }

  public func read() async throws -> T.Output? {
    while true {
      switch try stage.next() {
      case .element(let element): return element
      case .end: return nil
      case .needsStart: advance { try $0.start() }
      case .needsInput:
        do { take(try await source.read()) } catch {
          // Of this reader, and not of the source.
          if error is CancellationError && Task.isCancelled { throw error }
          if case StreamError.concurrentRead = error { throw error }
          try stage.run { $0.fail(error) }
        }
      }
    }
  }

  private func take(_ element: consuming Source.Output?) {
    // A closure can't consume what it captures; the box is emptied inside.
    var box = element
    advance { stage in
      if let element = box.take() { return try stage.accept(element) }
      try stage.finish()
      return false
    }
  }

  /// Runs the transform. The source is cancelled if that wants no more, or throws, which `next` tells behind what was given before.
  private func advance(_ step: (inout TransformStage<T>) throws -> Bool) {
    do {
      if try stage.run(step) { source.cancel(nil) }
    } catch {
      source.cancel(error)
    }
  }

  public func cancel(_ reason: (any Error)?) {
    stage.drop()
    source.cancel(reason)
  }
}

extension TransformedStream: LoopBound where Source: LoopBound {
  public var loop: any Loop { source.loop }
}

extension TransformedStream: PolledReadableStream where Source: PolledReadableStream {
  public func poll() throws -> Polled<T.Output> {
    assertOnLoop()
    while true {
      switch try stage.next() {
      case .element(let element): return .element(element)
      case .end: return .end
      case .needsStart: advance { try $0.start() }
      case .needsInput:
        do {
          switch try source.poll() {
          case .element(let element): take(element)
          case .pending: return .pending
          case .end: take(nil)
          }
        } catch {
          try stage.run { $0.fail(error) }
        }
      }
    }
  }

  public func drainer<Sink: PolledWritableStream>(into sink: Sink) -> () -> PipeStep where Sink.Input == T.Output {
    {
      self.drain(into: sink) {
        if let passed = try self.passNext(into: sink) { return passed }
        return try self.moveReady(into: sink) ? .some : self.moveNext(into: sink)
      }
    }
  }

  /// Takes an element of the source, and moves what the transform makes of it.
  /// - Returns: nil if there is something else to be given first, or it has come to an end.
  private func passNext<Sink: PolledWritableStream>(into sink: Sink) throws -> Moved? where Sink.Input == T.Output {
    guard stage.isSettled else { return nil }
    let next: Polled<T.Input>
    do { next = try source.poll() } catch {
      try stage.run { $0.fail(error) }
      return nil
    }
    switch next {
    case .element(let element):
      switch try stage.pass(element, { try sink.push($0) }) {
      case .settled, .hasMore: break
      case .ended: source.cancel(nil)
      case .failed(let error):
        source.cancel(error)
        return nil
      }
      return .some
    case .pending: return .pending
    case .end:
      take(nil)
      return nil
    }
  }

  /// Moves what the transform has given already, while there is room. To take one element after the other from a stage of types that are not known
  /// where this is compiled costs more than making it: lines of 16 bytes became messages in 1.1 µs each, of which 0.6 were for finding metadata.
  /// - Returns: whether there was anything.
  private func moveReady<Sink: PolledWritableStream>(into sink: Sink) throws -> Bool where Sink.Input == T.Output {
    let ready = stage.takeReady()
    if ready.isEmpty { return false }
    var count = 0
    defer { if count < ready.count { stage.putBack(ready[count...]) } }
    let elements = ready.span
    repeat {
      count += 1
      try sink.push(elements[count - 1])
    } while try count < elements.count && !stage.isDropped && sink.hasRoom()
    return true
  }

  public func attachReader(_ waker: any Waker) throws { try source.attachReader(waker) }
  public var hasReader: Bool { source.hasReader }
  public func detachReader() { source.detachReader() }
}

extension ReadableStream {
  /// This stream seen through a transform: reading the result reads this.
  ///
  /// The end of this stream flushes the transform, and so does its failure, which is thrown behind all that was read before. What the
  /// transform throws cancels this stream.
  ///
  /// ```swift
  /// for try await line in socket.pipe(through: .lines) { … }
  /// ```
  // Always inlined: the type of the transform is known where this is called, that of the stream often not.
  @inlinable
  @inline(__always)
  public func pipe<T: Transform>(through transform: T) -> TransformedStream<Self, T> where T.Input == Output {
    TransformedStream(self, SharedStage(transform))
  }
}
