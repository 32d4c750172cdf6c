import Synchronization

/// A writable stream behind a transform. See `WritableStream.behind(_:)`.
public final class TransformedSink<T: Transform, Sink: WritableStream>: WritableStream
where T.Output == Sink.Input {
  public typealias Input = T.Input

  private let sink: Sink
  private let stage: Mutex<TransformStage<T>>

  init(_ transform: T, _ sink: Sink) {
    self.sink = sink
    stage = Mutex(TransformStage(transform))
  }

  public func write(_ element: T.Input) async throws {
    for output in try transformed(element) { try await sink.write(output) }
  }

  public func close() async throws {
    for output in try finished() { try await sink.write(output) }
    try await sink.close()
  }

  public func abort(_ reason: any Error) { sink.abort(reason) }

  private func transformed(_ element: T.Input) throws -> some Sequence<Sink.Input> {
    try stage.withLock { stage in
      _ = try stage.accept(element)
      return stage.takeAll()
    }
  }

  private func finished() throws -> some Sequence<Sink.Input> {
    try stage.withLock { stage in
      try stage.finish()
      return stage.takeAll()
    }
  }
}

extension TransformedSink: EndOfTurn where Sink: PolledWritableStream {}

extension TransformedSink: PolledWritableStream where Sink: PolledWritableStream {
  public var loop: any Loop { sink.loop }
  public var needsFlush: Bool { sink.needsFlush }
  public func hasRoom() throws -> Bool { try sink.hasRoom() }
  public func push(_ element: consuming T.Input) throws {
    for output in try transformed(element) { try sink.push(output) }
  }
  public var queuedByteCount: Int { sink.queuedByteCount }
  public func flush() { sink.flush() }
  public func attachWriter(_ waker: any Waker) throws { try sink.attachWriter(waker) }
  public func detachWriter() { sink.detachWriter() }

  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    do {
      for output in try finished() { try sink.push(output) }
    } catch {
      // Closed already is success.
      if case StreamError.closed = error { return sink.closeWhenFlushed(completion) }
      sink.abort(error)
      return completion(error)
    }
    sink.closeWhenFlushed(completion)
  }
}

extension WritableStream {
  /// This stream behind a transform: what is written to the result comes here transformed.
  ///
  /// ```swift
  /// try await names.pipe(File.create("names").behind(LineEncoder()))
  /// ```
  public func behind<T: Transform>(_ transform: T) -> TransformedSink<T, Self> where T.Output == Input {
    TransformedSink(transform, self)
  }
}
