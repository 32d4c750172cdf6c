/// Something that elements can be read from: a socket, a file, a connection, an operator on another stream.
///
/// One reader at a time: a second `read` while one waits throws `StreamError.concurrentRead`. Cancelling the task of
/// a waiting `read` throws `CancellationError` there and leaves the stream as it was; elements not yet read stay.
///
/// ```swift
/// for try await chunk in connection { print(chunk.count) }
/// ```
///
/// Leaving the loop early neither closes the stream nor loses an element.
public protocol ReadableStream<Output>: AsyncSequence, Sendable
where Element == Output, Failure == any Error, AsyncIterator == ReadableStreamIterator<Output> {
  associatedtype Output: Sendable

  /// The next element; `nil` is the end. An empty chunk is a chunk, never the end. After the end, or after an
  /// error, `read` gives the same again.
  nonisolated(nonsending) func read() async throws -> Output?

  /// Nobody will read any more: the source may drop what it holds and free what it occupies.
  func cancel(_ reason: (any Error)?)
}

/// Something that elements can be written to.
///
/// One writer at a time, as with readers.
public protocol WritableStream<Input>: Sendable {
  associatedtype Input: Sendable

  /// Returns when there is room for the next element: not necessarily when this one has left.
  ///
  /// A write whose task is cancelled while there is no room throws `CancellationError`, and has not taken the element; one
  /// that returns has.
  nonisolated(nonsending) func write(_ element: Input) async throws

  /// Flushes what was written, then ends this half. Closing what is closed already is success.
  func close() async throws

  /// Flushes what was written, then ends this half, and tells its reader, where there is a way to say it, that the source failed and that
  /// what came is not all: a WebSocket closes with 1011, TLS ends without close_notify, TCP is reset once everything is acknowledged.
  ///
  /// This is how a pipe ends its sink when its source fails. Default: `close()`, so that nothing is lost; the pipe throws the failure.
  func close(after failure: any Error) async throws

  /// Drops what is queued and tears down: for cancellation, and for a sink that has failed itself.
  func abort(_ reason: any Error)
}

extension WritableStream {
  public func close(after failure: any Error) async throws { try await close() }

  /// Drops what is queued and tears down: who reads or waits gets `StreamError.aborted`.
  public func abort() { abort(StreamError.aborted) }
}

/// Two halves that end independently.
public protocol DuplexStream<Output, Input>: ReadableStream, WritableStream {
  /// Whether closing the write half makes the peer end the read half too, as a WebSocket's Close does. Default: false.
  var endsAsOne: Bool { get }

  /// Whether nothing is to be read for others any more when the reader of what is written here has gone: as of standard input and output, which
  /// have nothing to do with each other but that they belong to one program. Default: false.
  var endsWithReader: Bool { get }
}

extension DuplexStream {
  public var endsAsOne: Bool { false }
  public var endsWithReader: Bool { false }
}

extension ReadableStream {
  /// Nobody will read any more.
  public func cancel() { cancel(nil) }

  public func makeAsyncIterator() -> ReadableStreamIterator<Output> { ReadableStreamIterator(stream: self) }
}

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

/// What the beginning of a read comes to, where the task may be one that waits without a cancellation handler.
@usableFromInline
package enum ServedReadStep<Element> {
  case element(Element)
  case end
  /// Nothing is ready: the waiter, or the spare one if this is nil, is attached. The task has a cancellation handler that finishes it.
  case waiting(LoopWaiter?)
  /// Nothing was done: the task is to call `read`.
  case mustRead
}

/// How a task has waited for an element.
@usableFromInline
package enum ReadWait {
  case none, woken, cancelled
}

/// A stream that is a value, behind a reference.
private final class BoxedStream<Base: ReadableStream>: ReadableStream {
  private let base: Base

  init(base: Base) { self.base = base }

  nonisolated(nonsending) func read() async throws -> Base.Output? { try await base.read() }
  func cancel(_ reason: (any Error)?) { base.cancel(reason) }
}
