/// Moves elements between two streams of one loop, inside the loop's callbacks.
///
/// It is woken when the source may have something or the sink may have room, and moves what it can. It never keeps an
/// element: what the sink has no room for stays in the source.
@usableFromInline
package final class Pump<Source: PolledReadableStream, Sink: PolledWritableStream>: Waker, @unchecked Sendable
where Source.Output == Sink.Input {  // touched on its loop only
  @usableFromInline let source: Source
  @usableFromInline let sink: Sink
  @usableFromInline let activity: PipeActivity?

  // The continuation is unchecked, which costs an idle pipe less memory; `settle` is the one place that resumes it, and the
  // state is `finished` from then on.
  @usableFromInline
  @safe enum State {
    case idle
    case running(UnsafeContinuation<PipeOutcome, Never>)
    case finished(PipeOutcome)
  }
  @safe @exclusivity(unchecked) @usableFromInline var state = State.idle
  /// Moves what can be moved; called while the pump runs.
  @usableFromInline let drain: () -> PipeStep
  @safe @exclusivity(unchecked) @usableFromInline var isMoving = false
  /// A wake came while the pump moved elements, such as that of the flush that made room or failed.
  @safe @exclusivity(unchecked) @usableFromInline var isWokenAgain = false

  @usableFromInline
  init(_ source: Source, _ sink: Sink, _ activity: PipeActivity?) {
    self.source = source
    self.sink = sink
    self.activity = activity
    drain = source.drainer(into: sink)
  }

  /// Runs until there is an outcome: one suspension, one cancellation handler. Inlined, because an idle pipe costs the
  /// memory of its frames.
  @inlinable
  @inline(__always)
  func run() async -> PipeOutcome {
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

  @usableFromInline
  func cancel() {
    source.loop.perform { self.finish(.cancelled) }
  }

  private func start(_ continuation: UnsafeContinuation<PipeOutcome, Never>) {
    if case .finished(let outcome) = state { return unsafe continuation.resume(returning: outcome) }
    state = unsafe .running(continuation)
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
  package func wake() {
    guard case .running = state else { return }
    if isMoving {
      isWokenAgain = true
      return
    }
    isMoving = true
    defer { isMoving = false }
    repeat {
      isWokenAgain = false
      switch drain() {
      case .waiting(let hasMoved): if hasMoved { activity?.didMove() }
      case .ended(let outcome): return finish(outcome)
      }
    } while isWokenAgain
  }

  @usableFromInline
  func finish(_ outcome: PipeOutcome) {
    guard case .running = state else {
      if case .idle = state { state = .finished(outcome) }
      return
    }
    source.detachReader()
    sink.detachWriter()
    settle(outcome)
  }

  private func settle(_ outcome: PipeOutcome) {
    guard case .running(let continuation) = state else { return }
    state = .finished(outcome)
    unsafe continuation.resume(returning: outcome)
  }
}
