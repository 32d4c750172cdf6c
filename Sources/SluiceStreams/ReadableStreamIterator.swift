/// Reads a stream for `for try await`. It holds nothing of its own: a new iterator goes on where the last one stopped.
public struct ReadableStreamIterator<Element: Sendable>: AsyncIteratorProtocol {
  // A reference, which takes less memory of a task that waits than what may be a value.
  @usableFromInline let stream: any ReadableStream<Element> & AnyObject
  /// Begins a read where the calling task can wait without a cancellation handler.
  @usableFromInline let beginRead: ((LoopWaiter?, ReadWait) throws -> ServedReadStep<Element>)?
  /// What was waited with last.
  @usableFromInline var waiter: LoopWaiter?

  init(stream: some ReadableStream<Element>) {
    self.stream = stream as? any ReadableStream<Element> & AnyObject ?? BoxedStream(base: stream)
    beginRead = nil
  }

  /// - Parameter beginRead: Takes what is ready, or attaches a waiter: `spare`, if there is one. `wait` says how the task has waited since the
  ///   last call, which is to end that wait. Called wherever the task runs.
  @usableFromInline
  package init(
    stream: any ReadableStream<Element> & AnyObject,
    beginRead: @escaping (_ spare: LoopWaiter?, _ wait: ReadWait) throws -> ServedReadStep<Element>
  ) {
    self.stream = stream
    self.beginRead = beginRead
  }

  public nonisolated(nonsending) mutating func next() async throws -> Element? { try await stream.read() }

  // It waits in the frame of the loop that it is inlined into: a message that is waited for would pay for each frame between the
  // two, and for each change of executors on the way back.
  @inlinable
  @inline(__always)
  public mutating func next(isolation actor: isolated (any Actor)?) async throws -> Element? {
    guard let beginRead else { return try await stream.read() }
    var wait = ReadWait.none
    while true {
      switch try beginRead(waiter, wait) {
      case .element(let element): return element
      case .end: return nil
      case .waiting(let fresh):
        if let fresh { waiter = fresh }
        // There is one: without a spare one, a fresh one was attached.
        let isCancelled = await unsafe withUnsafeContinuation(isolation: actor) { continuation in
          unsafe waiter!.suspend(continuation)
        }
        wait = isCancelled ? .cancelled : .woken
      case .mustRead: return try await stream.read()
      }
    }
  }
}

/// A stream that is a value, behind a reference.
private final class BoxedStream<Base: ReadableStream>: ReadableStream {
  private let base: Base

  init(base: Base) { self.base = base }

  nonisolated(nonsending) func read() async throws -> Base.Output? { try await base.read() }
  func cancel(_ reason: (any Error)?) { base.cancel(reason) }
}
