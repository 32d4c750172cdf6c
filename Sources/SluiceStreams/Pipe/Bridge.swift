import Synchronization

/// Connects two duplex streams in both directions.
///
/// An end in one direction half-closes that side, and the other direction goes on. Returns when both directions have ended. When one side
/// fails, the other gets all that was read before, and is then told (`WritableStream.close(after:)`); anything that it still sends is discarded.
/// - Throws: the first error, when both directions have ended; `StreamError.halfCloseTimeout`; `CancellationError` when the task is
///   cancelled. After these two all four halves are aborted. A sink that was closed by its own side, or whose reader has gone, is not an error but
///   the end of its direction.
///
/// ```swift
/// try await bridge(StandardIO(), TCP.connect("127.0.0.1", port: 7))
/// ```
public func bridge<A: DuplexStream, B: DuplexStream>(
  _ a: A, _ b: B, options: BridgeOptions = BridgeOptions()
) async throws where A.Output == B.Input, B.Output == A.Input {
  try await Bridge(a, b, options).run()
}

private struct Bridge<A: DuplexStream, B: DuplexStream>: Sendable where A.Output == B.Input, B.Output == A.Input {
  private let a: A
  private let b: B
  private let options: BridgeOptions
  private let activity = PipeActivity()
  private let failure = BridgeFailure()
  private let attendants = Attendants()

  init(_ a: A, _ b: B, _ options: BridgeOptions) {
    self.a = a
    self.b = b
    self.options = options
  }

  func run() async throws {
    defer { attendants.cancel() }
    await withTaskGroup(of: DirectionEnd.self) { directions in
      directions.addTask { await move(from: a, to: b) }
      directions.addTask { await move(from: b, to: a) }
      if let first = await directions.next() { attend(first) }
      _ = await directions.next()
    }
    if Task.isCancelled {
      abort(CancellationError())
      throw CancellationError()
    }
    if let error = failure.error {
      await closeOpenEnds(after: error)
      throw error
    }
    if options.onEnd.holdsClose { try await closeHeld() }
    a.cancel(nil)
    b.cancel(nil)
  }

  // MARK: one direction

  private enum DirectionEnd {
    case ended
    /// The reader of a program's output has gone, and the program ends.
    case lostReader
    case sourceFailed(any Error)
    /// What the side that could not be written to has to say of that may come from its other half.
    case sinkFailed(any DuplexStream, any Error)
  }

  private func move<Source: DuplexStream, Sink: DuplexStream>(
    from source: Source, to sink: Sink
  ) async -> DirectionEnd where Source.Output == Sink.Input {
    switch await source.moveAll(into: sink, activity) {
    case .sourceEnded: return await didEnd(source, sink)
    case .sourceFailed(let error):
      // Noted first: the other direction fails by it too, of which may be heard sooner.
      Reached.mark("bridge.sourceFailed")
      failure.note(ofSource: error)
      await sink.end(after: error, stallTimeout: options.stallTimeout)
      // Nobody is left to hear what comes back.
      sink.cancel(nil)
      return .sourceFailed(error)
    case .sinkFailed(StreamError.closed): return didLoseReader(source, sink)
    case .sinkFailed(let error): return await didFail(source, sink, error)
    case .cancelled: return .ended
    }
  }

  private func didEnd<Source: DuplexStream, Sink: DuplexStream>(_ source: Source, _ sink: Sink) async -> DirectionEnd {
    // What ends because the sink's own side has failed is not all there was.
    if let error = failure.sourceError {
      Reached.mark("bridge.endByFailureElsewhere")
      await sink.end(after: error, stallTimeout: options.stallTimeout)
      return .ended
    }
    // An answer could not be told to a source that has ended in both directions.
    let waitsForAnswer = sink.endsAsOne && !source.endsAsOne
    do {
      if !(options.onEnd.holdsClose && waitsForAnswer) { try await sink.close(atEndOf: source) }
    } catch StreamError.closed {
      return didLoseReader(source, sink)
    } catch {
      return await didFail(source, sink, error)
    }
    if source.endsAsOne { sink.cancel(nil) }
    return .ended
  }

  /// The sink was closed by its own side, or its reader has gone.
  private func didLoseReader<Source: DuplexStream, Sink: DuplexStream>(_ source: Source, _ sink: Sink) -> DirectionEnd {
    if sink.endsWithReader, options.onEnd != .defer {
      Reached.mark("bridge.programLostReader")
      sink.cancel(nil)
      // Its peer may have to be rid of what it has before it takes what is still to be sent.
      if source.endsAsOne { source.cancel(nil) } else { readForNobody(source) }
      return .lostReader
    }
    Reached.mark("bridge.readerGone")
    // What can't be cancelled in one direction is read for nobody, as the other may go on.
    if source.endsAsOne { readForNobody(source) } else { source.cancel(nil) }
    return .ended
  }

  private func readForNobody(_ source: some ReadableStream) {
    attendants.add { while try await source.read() != nil {} }
  }

  private func didFail<Source: DuplexStream, Sink: DuplexStream>(
    _ source: Source, _ sink: Sink, _ error: any Error
  ) async -> DirectionEnd {
    if (sink as? any SelfFailing)?.hasFailed == true {
      // What was to be written is at fault, and not who takes it.
      Reached.mark("bridge.sinkFailedItself")
      failure.note(ofSource: error)
      await sink.end(after: error, stallTimeout: options.stallTimeout)
    } else if sink.endsWithReader {
      // It has nothing to say of that, and nothing more to give.
      failure.note(ofSource: error)
      sink.cancel(nil)
    } else {
      Reached.mark("bridge.sinkFailed")
      failure.note(ofSink: error)
    }
    // What ends in both directions at once is still to get the sink's last words.
    if !source.endsAsOne { source.cancel(nil) }
    return .sinkFailed(sink, error)
  }

  // MARK: the other direction

  /// What becomes of the other direction when one has ended.
  private func attend(_ first: DirectionEnd) {
    switch first {
    case .ended:
      if options.onEnd == .closeBoth {
        Reached.mark("bridge.closeBoth")
        a.cancel(nil)
        b.cancel(nil)
      }
      if options.onEnd == .afterAnswer {
        attendants.add {
          // Pings and pongs are no answer, nor a sign that what was asked is still on its way.
          try await silence(of: options.answerTimeout, butFor: Self.controlByteCount)
          Reached.mark("bridge.answerTimeout")
          // Not cancelled with the bridge, which waits for it.
          _ = startTask { try? await closeHeld() }
        }
      }
      if let limit = options.halfCloseTimeout { abort(StreamError.halfCloseTimeout(limit), afterSilenceOf: limit) }
    case .lostReader:
      attendants.add {
        try await silence(of: options.lastWordsTimeout)
        Reached.mark("bridge.lostReaderSilence")
        // That nobody reads is no failure.
        for stream in [a, b] as [any DuplexStream] {
          stream.abort(StreamError.closed)
          stream.cancel(nil)
        }
      }
    case .sourceFailed(let error): abort(error, afterSilenceOf: options.stallTimeout)
    case .sinkFailed(let sink, let error):
      attendants.add {
        try await silence(of: options.lastWordsTimeout)
        Reached.mark("bridge.lastWordsTimeout")
        sink.abort(error)
      }
      abort(error, afterSilenceOf: options.stallTimeout)
    }
  }

  private func abort(_ error: any Error, afterSilenceOf limit: Duration) {
    attendants.add {
      try await silence(of: limit)
      Reached.mark("bridge.silenceLimit")
      abort(error)
    }
  }

  private func abort(_ error: any Error) {
    failure.note(ofSource: error)
    for stream in [a, b] as [any DuplexStream] {
      stream.abort(error)
      stream.cancel(error)
    }
  }

  private func closeHeld() async throws {
    Reached.mark("bridge.heldClose")
    if a.endsAsOne { try await close(a, atEndOf: b) }
    if b.endsAsOne { try await close(b, atEndOf: a) }
  }

  /// Closing what is closed is success, also where it was given up because nobody reads any more.
  private func close(_ sink: some WritableStream, atEndOf source: some ReadableStream) async throws {
    do { try await sink.close(atEndOf: source) } catch StreamError.closed {}
  }

  private func closeOpenEnds(after error: any Error) async {
    // The peer's Close comes behind what nobody reads any more.
    if a.endsAsOne { readForNobody(a) }
    if b.endsAsOne { readForNobody(b) }
    await a.end(after: error, stallTimeout: options.stallTimeout)
    await b.end(after: error, stallTimeout: options.stallTimeout)
  }

  /// What control frames may come to in the time of an answer.
  private static var controlByteCount: Int { 1 << 10 }

  /// Returns once nothing has moved for the time.
  /// - Parameter count: Bytes that may have left, where nothing waits to.
  private func silence(of limit: Duration, butFor count: Int = 0) async throws {
    var last = await progress
    while true {
      try await pause(for: limit)
      let now = await progress
      let hasTaken = zip(now.sinks, last.sinks).contains { now, last in
        now.taken != last.taken && (now.queued > 0 || now.taken - last.taken > count)
      }
      if now.moves == last.moves && !hasTaken { return }
      last = now
    }
  }

  private var progress: (moves: Int, sinks: [SinkProgress]) {
    get async { await (activity.count, [a.progress, b.progress]) }
  }
}

/// Why a bridge fails: what went wrong first, and not what that has brought about.
private final class BridgeFailure: Sendable {
  private enum State {
    case none
    /// A side could not be written to. What it says of that itself tells more.
    case ofSink(any Error)
    case ofSource(any Error)
  }
  private let state = Mutex(State.none)

  func note(ofSink error: any Error) {
    state.withLock { if case .none = $0 { $0 = .ofSink(error) } }
  }

  func note(ofSource error: any Error) {
    state.withLock { state in
      switch state {
      case .none: state = .ofSource(error)
      case .ofSink:
        Reached.mark("bridge.sourceErrorWins")
        state = .ofSource(error)
      case .ofSource: break
      }
    }
  }

  /// What the reading of a side has failed with, and not only the writing to one.
  var sourceError: (any Error)? {
    state.withLock { if case .ofSource(let error) = $0 { error } else { nil } }
  }

  var error: (any Error)? {
    state.withLock {
      switch $0 {
      case .none: nil
      case .ofSink(let error), .ofSource(let error): error
      }
    }
  }
}

/// What runs along with a bridge, and ends with it.
private final class Attendants: Sendable {
  private let tasks = Mutex<[Task<Void, any Error>]>([])

  func add(_ body: @escaping @Sendable () async throws -> Void) {
    let task = startTask(body)
    tasks.withLock { $0.append(task) }
  }

  func cancel() {
    for task in tasks.withLock({ $0 }) { task.cancel() }
  }
}

/// What is known of a sink's peer: its growth is a sign of life.
private struct SinkProgress {
  /// Bytes that it has taken so far.
  var taken = 0
  /// Bytes that wait for it.
  var queued = 0
}

extension WritableStream {
  /// Nothing, where that is not known.
  fileprivate var progress: SinkProgress {
    get async {
      if let split = self as? any SplitWritable { return await split.writableHalf.progress }
      guard let polled = self as? any PolledWritableStream else { return SinkProgress() }
      let progress = try? await polled.loop.run {
        let queued = polled.queuedByteCount
        return SinkProgress(taken: polled.deliveredByteCount ?? -queued, queued: queued)
      }
      return progress ?? SinkProgress()
    }
  }
}
