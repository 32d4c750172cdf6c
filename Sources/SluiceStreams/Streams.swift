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

  /// Drops what is queued and tears down.
  func abort(_ reason: any Error)
}

/// Two halves that end independently.
public protocol DuplexStream<Output, Input>: ReadableStream, WritableStream {
  /// Whether closing the write half makes the peer end the read half too, as a WebSocket's Close does. Default: false.
  var endsAsOne: Bool { get }
}

extension DuplexStream {
  public var endsAsOne: Bool { false }
}

extension ReadableStream {
  /// Nobody will read any more.
  public func cancel() { cancel(nil) }

  public func makeAsyncIterator() -> ReadableStreamIterator<Output> { ReadableStreamIterator(stream: self) }
}

/// Reads a stream for `for try await`. It holds nothing of its own: a new iterator goes on where the last one stopped.
public struct ReadableStreamIterator<Element: Sendable>: AsyncIteratorProtocol {
  // A reference, which takes less memory of a task that waits than what may be a value.
  private let stream: any ReadableStream<Element> & AnyObject

  init(stream: some ReadableStream<Element>) {
    self.stream = stream as? any ReadableStream<Element> & AnyObject ?? BoxedStream(base: stream)
  }

  public nonisolated(nonsending) mutating func next() async throws -> Element? { try await stream.read() }

  public mutating func next(isolation actor: isolated (any Actor)?) async throws -> Element? { try await stream.read() }
}

/// A stream that is a value, behind a reference.
private final class BoxedStream<Base: ReadableStream>: ReadableStream {
  private let base: Base

  init(base: Base) { self.base = base }

  nonisolated(nonsending) func read() async throws -> Base.Output? { try await base.read() }
  func cancel(_ reason: (any Error)?) { base.cancel(reason) }
}
