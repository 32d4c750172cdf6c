import SluiceStreams

/// A file, named pipe or device as a stream of bytes.
///
/// ```swift
/// try await File.open("in.txt").pipe(File.create("out.txt"))
/// ```
///
/// A regular file is read and written on libuv's thread pool: one chunk (128 KiB) is read ahead, and writes above the watermark (1 MiB) wait.
/// The descriptor is closed when each half that it was opened for is read to its end, cancelled, closed or aborted, and with the last reference
/// at the latest. `close` waits for that and throws what it says: a file server or a quota may refuse no earlier what was written. (Where the
/// other half is still open, it can't.)
///
/// Named pipes, terminals and other devices are waited for as sockets are, and occupy no thread. Reading a named pipe begins with its first
/// writer, and ends with its last; opening one to be written waits for a reader. When the last reader has gone, writing throws
/// `StreamError.closed`, unless another one has come by then.
public final class File: PolledDuplexStream, Sendable {
  public typealias Output = Bytes
  public typealias Input = Bytes

  let uvLoop: UVLoop
  /// The path, for error messages.
  public let name: String
  private let base: any PolledDuplexStream<Bytes, Bytes>

  init(_ base: any PolledDuplexStream<Bytes, Bytes>, name: String, on loop: UVLoop) {
    self.base = base
    self.name = name
    uvLoop = loop
  }

  deinit {
    uvLoop.perform { [base] in
      base.cancel(nil)
      base.closeWhenFlushed { _ in }
    }
  }

  public var loop: any Loop { uvLoop }

  public func poll() throws -> Polled<Bytes> { try base.poll() }
  public func attachReader(_ waker: any Waker) throws { try base.attachReader(waker) }
  public var hasReader: Bool { base.hasReader }
  public func detachReader() { base.detachReader() }
  public func cancel(_ reason: (any Error)?) { base.cancel(reason) }

  public func hasRoom() throws -> Bool {
    do { return try base.hasRoom() } catch { throw closedIfUnread(error) }
  }

  public func push(_ element: consuming Bytes) throws { try base.push(element) }
  public var queuedByteCount: Int { base.queuedByteCount }
  public func flush() { base.flush() }
  public func attachWriter(_ waker: any Waker) throws { try base.attachWriter(waker) }
  public func detachWriter() { base.detachWriter() }
  public func abort(_ reason: any Error) { base.abort(reason) }

  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    base.closeWhenFlushed { error in completion(error.map(closedIfUnread)) }
  }
}

/// EPIPE is no failure where nobody has to read: whoever did has had enough.
func closedIfUnread(_ error: any Error) -> any Error {
  if let error = error as? IOError, error.code == "EPIPE" { StreamError.closed } else { error }
}
