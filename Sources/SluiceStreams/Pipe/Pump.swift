/// Moves elements between two streams of one loop, inside the loop's callbacks.
///
/// It is woken when the source may have something or the sink may have room, and moves what it can. It never keeps an
/// element: what the sink has no room for stays in the source.
@usableFromInline
package final class Pump<Source: PolledReadableStream, Sink: PolledWritableStream>: UnguardedWait, @unchecked Sendable
where Source.Output == Sink.Input {  // touched on its loop only
  @usableFromInline let source: Source
  @usableFromInline let sink: Sink

  // The continuation is unchecked, which costs an idle pipe less memory; `settle` is the one place that resumes it, and the
  // state is `finished` from then on.
  @usableFromInline
  @safe enum State {
    case idle
    /// Until the next wake there is nothing to be moved.
    case waiting(UnsafeContinuation<PipeOutcome, Never>)
    case moving(UnsafeContinuation<PipeOutcome, Never>)
    /// A wake came while elements were moved, such as that of the flush that made room or failed.
    case wokenAgain(UnsafeContinuation<PipeOutcome, Never>)
    case finished(PipeOutcome)
  }
  @safe @exclusivity(unchecked) @usableFromInline var state = State.idle
  @usableFromInline package var isUnguarded = false
  /// Moves what can be moved; called while the pump runs.
  @usableFromInline let drain: () -> PipeStep

  @usableFromInline
  init(_ source: Source, _ sink: Sink, _ activity: PipeActivity?) {
    self.source = source
    self.sink = sink
    let drain = source.drainer(into: sink)
    self.drain = if let activity { activity.counting(drain) } else { drain }
  }

  /// Runs until there is an outcome: one suspension, and one cancellation handler unless the task has one for all that it does with the source.
  /// Inlined, because an idle pipe costs the memory of its frames.
  @inlinable
  @inline(__always)
  func run() async -> PipeOutcome {
    if isServed() { return await unsafe withUnsafeContinuation { unsafe begin($0) } }
    return await runGuarded()
  }

  /// Apart, because a server's own task holds the memory of the frame of `run`, and does not wait so.
  @inlinable
  @inline(never)
  func runGuarded() async -> PipeOutcome {
    await withTaskCancellationHandler {
      await unsafe withUnsafeContinuation { unsafe begin($0) }
    } onCancel: {
      cancel()
    }
  }

  @usableFromInline
  func begin(_ continuation: UnsafeContinuation<PipeOutcome, Never>) {
    if source.loop.isCurrent {
      unsafe start(continuation)
    } else {
      source.loop.execute { unsafe self.start(continuation) }
    }
  }

  /// Whether the calling task is the one that a server runs for the source.
  @usableFromInline
  func isServed() -> Bool {
    guard source.isOnLoop, let served = source as? any ServedStream else { return false }
    return served.waitsUnguarded(self)
  }

  @usableFromInline
  package func cancelWait() { finish(.cancelled) }

  @usableFromInline
  func cancel() {
    source.loop.perform { self.finish(.cancelled) }
  }

  private func start(_ continuation: UnsafeContinuation<PipeOutcome, Never>) {
    if case .finished(let outcome) = state { return unsafe continuation.resume(returning: outcome) }
    state = unsafe .waiting(continuation)
    do { try source.attachReader(self) } catch { return settle(.sourceFailed(error)) }
    do {
      try sink.attachWriter(self)
    } catch {
      source.detachReader()
      return settle(.sinkFailed(error))
    }
    wake()
  }

  @usableFromInline
  package func wakeReader() { wake() }
  @usableFromInline
  package func wakeWriter() { wake() }

  private func wake() {
    source.assertOnLoop()
    switch state {
    case .waiting(let continuation):
      state = unsafe .moving(continuation)
      move()
    case .moving(let continuation):
      Reached.mark("pump.wokenAgain")
      state = unsafe .wokenAgain(continuation)
    case .idle, .wokenAgain, .finished: break
    }
  }

  private func move() {
    while true {
      if case .ended(let outcome) = drain() { return finish(outcome) }
      switch state {
      case .moving(let continuation):
        state = unsafe .waiting(continuation)
        return
      case .wokenAgain(let continuation): state = unsafe .moving(continuation)
      case .idle, .waiting, .finished: return
      }
    }
  }

  @usableFromInline
  func finish(_ outcome: PipeOutcome) {
    source.assertOnLoop()
    switch state {
    case .idle:
      Reached.mark("pump.cancelledBeforeStart")
      state = .finished(outcome)
    case .waiting, .moving, .wokenAgain:
      source.detachReader()
      sink.detachWriter()
      settle(outcome)
    case .finished: break
    }
  }

  private func settle(_ outcome: PipeOutcome) {
    switch state {
    case .waiting(let continuation), .moving(let continuation), .wokenAgain(let continuation):
      state = .finished(outcome)
      unsafe continuation.resume(returning: outcome)
    case .idle, .finished: break
    }
  }
}
