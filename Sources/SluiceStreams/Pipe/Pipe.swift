extension ReadableStream {
  /// Moves everything from this stream to a sink, at the pace of the slower of the two.
  ///
  /// Returns when this stream has ended and the sink has flushed and closed. Two streams of one loop are connected inside
  /// the loop's callbacks, with one suspension for the whole pipe; any others are read and written in turn.
  ///
  /// - This stream fails: what it gave before is written and flushed, and then the sink is told, by `close(after:)`. The sink fails, or was
  ///   closed before: this stream is cancelled. The pipe is cancelled: the sink is aborted, and drops what it holds. Each can be prevented
  ///   with `options`.
  /// - Throws: the first error, once; `StreamError.closed` if the sink was closed by somebody else meanwhile;
  ///   `CancellationError` when the task is cancelled.
  ///
  /// ```swift
  /// try await ws.pipe(ws)   // an echo server
  /// ```
  public func pipe<Sink: WritableStream>(_ sink: Sink, options: PipeOptions = PipeOptions()) async throws
  where Sink.Input == Output {
    try await settle(await moveAll(into: sink, options.activity), self, sink, options)
  }

  /// Moves elements until one of the two ends, in the gear that both have.
  func moveAll<Sink: WritableStream>(into sink: Sink, _ activity: PipeActivity?) async -> PipeOutcome
  where Sink.Input == Output {
    if let split = self as? any SplitReadable<Output> {
      return await split.readableHalf.moveAll(into: sink, activity)
    }
    if let split = sink as? any SplitWritable<Output> {
      return await moveAll(opening: split.writableHalf, activity)
    }
    if let source = self as? any PolledReadableStream<Output>,
      let polledSink = sink as? any PolledWritableStream<Output>,
      source.loop === polledSink.loop
    {
      return await pump(opening: source, polledSink, activity)
    }
    return await relay(self, sink, activity)
  }

  private func moveAll<Sink: WritableStream>(opening sink: Sink, _ activity: PipeActivity?) async -> PipeOutcome
  where Sink.Input == Output {
    await moveAll(into: sink, activity)
  }
}

extension PolledReadableStream {
  /// Moves everything from this stream to a sink, as `ReadableStream.pipe` does; specialised for the two types.
  @inlinable
  public func pipe<Sink: PolledWritableStream>(_ sink: Sink, options: PipeOptions = PipeOptions()) async throws
  where Sink.Input == Output {
    let outcome =
      loop === sink.loop ? await Pump(self, sink, options.activity).run() : await relay(self, sink, options.activity)
    try await settle(outcome, self, sink, options)
  }
}

/// How the moving of elements ended; what remains to be done to either side follows from it.
public enum PipeOutcome: Sendable {
  case sourceEnded
  case sourceFailed(any Error)
  case sinkFailed(any Error)
  case cancelled
}

/// What one turn of a pipe came to.
public enum PipeStep: Sendable {
  /// The source has nothing more now, or the sink no room.
  case waiting(hasMoved: Bool)
  case ended(PipeOutcome)
}

/// Closes, aborts and cancels by the rules of a pipe.
@usableFromInline
package func settle<Source: ReadableStream, Sink: WritableStream>(
  _ outcome: PipeOutcome, _ source: Source, _ sink: Sink, _ options: PipeOptions
) async throws {
  switch outcome {
  case .sourceEnded:
    if !options.preventClose { try await sink.close(atEndOf: source) }
  case .sourceFailed(let error):
    Reached.mark("pipe.sourceFailed")
    if !options.preventAbort { await sink.end(after: error, stallTimeout: options.stallTimeout) }
    throw error
  case .sinkFailed(let error):
    Reached.mark("pipe.sinkFailed")
    // What was given to it before arrives.
    if (sink as? any SelfFailing)?.hasFailed == true {
      Reached.mark("pipe.sinkFailedItself")
      await sink.end(after: error, stallTimeout: options.stallTimeout)
    }
    // A sink that is closed is nobody's fault: a source that tells its peer why it ends tells no error.
    let isClosed = if case StreamError.closed = error { true } else { false }
    if !options.preventCancel { source.cancel(isClosed ? nil : error) }
    throw error
  case .cancelled:
    Reached.mark("pipe.cancelled")
    if !options.preventAbort { sink.abort(CancellationError()) }
    if !options.preventCancel { source.cancel(CancellationError()) }
    throw CancellationError()
  }
}

extension WritableStream {
  /// Closes after a failure of the source; aborts if it takes nothing for the time. Its own outcome is not reported: the failure is.
  func end(after failure: any Error, stallTimeout limit: Duration) async {
    if let split = self as? any SplitWritable {
      return await split.writableHalf.end(after: failure, stallTimeout: limit)
    }
    if let polled = self as? any PolledWritableStream {
      return await polled.closeWatched(after: failure, stallTimeout: limit)
    }
    let watchdog = startTask {
      try await pause(for: limit)
      Reached.mark("pipe.endStalled")
      abort(failure)
    }
    defer { watchdog.cancel() }
    try? await close(after: failure)
  }
}

/// The simple gear: read, write, in turn.
@usableFromInline
package func relay<Source: ReadableStream, Sink: WritableStream>(
  _ source: Source, _ sink: Sink, _ activity: PipeActivity?
) async -> PipeOutcome
where Source.Output == Sink.Input {
  while true {
    if Task.isCancelled { return .cancelled }
    let element: Source.Output
    do {
      // A source may take the cancellation of its reader for its end.
      guard let next = try await source.read() else { return Task.isCancelled ? .cancelled : .sourceEnded }
      element = next
    } catch {
      return Task.isCancelled && error is CancellationError ? .cancelled : .sourceFailed(error)
    }
    do {
      try await sink.write(element)
      activity?.didMove()
    } catch {
      return Task.isCancelled && error is CancellationError ? .cancelled : .sinkFailed(error)
    }
  }
}

private func pump<Source: PolledReadableStream, Sink: PolledWritableStream>(
  opening source: Source, _ sink: Sink, _ activity: PipeActivity?
) async -> PipeOutcome where Source.Output == Sink.Input {
  await Pump(source, sink, activity).run()
}
