import Synchronization

/// A readable stream seen through a transform. See `ReadableStream.pipe(through:)`.
public final class TransformedStream<Source: ReadableStream, T: Transform>: ReadableStream
where T.Input == Source.Output {
  public typealias Output = T.Output

  private let source: Source
  private let stage: Mutex<TransformStage<T>>

  init(_ source: Source, _ transform: T) {
    self.source = source
    stage = Mutex(TransformStage(transform))
  }

  public func read() async throws -> T.Output? {
    while true {
      switch try stage.withLock({ try $0.next() }) {
      case .element(let element): return element
      case .end: return nil
      case .needsInput: try take(await source.read())
      }
    }
  }

  private func take(_ element: consuming Source.Output?) throws {
    do {
      if let element = consume element {
        // The closure of a lock can't consume what it captures; the box is emptied inside.
        var box = Optional(element)
        let hasEnded = try stage.withLock { stage in try box.take().map { try stage.accept($0) } ?? false }
        if hasEnded { source.cancel(nil) }
      } else {
        try stage.withLock { try $0.finish() }
      }
    } catch {
      source.cancel(error)
      throw error
    }
  }

  public func cancel(_ reason: (any Error)?) {
    stage.withLock { $0.cancel() }
    source.cancel(reason)
  }
}

extension TransformedStream: PolledReadableStream where Source: PolledReadableStream {
  public var loop: any Loop { source.loop }

  public func poll() throws -> Polled<T.Output> {
    while true {
      switch try stage.withLock({ try $0.next() }) {
      case .element(let element): return .element(element)
      case .end: return .end
      case .needsInput:
        switch try source.poll() {
        case .element(let element): try take(element)
        case .pending: return .pending
        case .end: try take(nil)
        }
      }
    }
  }

  public func attachReader(_ waker: any Waker) throws { try source.attachReader(waker) }
  public var hasReader: Bool { source.hasReader }
  public func detachReader() { source.detachReader() }
}

extension ReadableStream {
  /// This stream seen through a transform: reading the result reads this.
  ///
  /// The end of this stream flushes the transform. What the transform throws cancels this stream.
  ///
  /// ```swift
  /// for try await line in socket.pipe(through: .lines) { … }
  /// ```
  public func pipe<T: Transform>(through transform: T) -> TransformedStream<Self, T> where T.Input == Output {
    TransformedStream(self, transform)
  }
}
