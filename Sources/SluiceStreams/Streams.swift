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

  /// Nothing will be read any more: the source may drop what it holds and free its resources.
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

  /// Drops what is queued and tears down: waiting readers and writers get `StreamError.aborted`.
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
