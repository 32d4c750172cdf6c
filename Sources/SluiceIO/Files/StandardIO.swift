import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// One of the process's standard streams, whatever it is: terminal, pipe, socket, regular file, /dev/null.
///
/// It is opened when it is first read or written. The process's own descriptor stays open until the process exits, and others who share it
/// notice nothing of this: closing the stream flushes it, and ends only a connection that was given to this process, as inetd does.
///
/// When nobody reads standard output or error any more, writing throws `StreamError.closed`, and who waits to write is woken for it, also when
/// there was nothing to write.
public final class StandardStream: PolledDuplexStream, @unchecked Sendable {  // touched on its loop only
  public typealias Output = Bytes
  public typealias Input = Bytes

  private let uvLoop: UVLoop
  private let descriptor: CInt
  private let name: String

  private enum State {
    case unopened
    case open(any PolledDuplexStream<Bytes, Bytes>)
    /// Cancelled or closed before it was opened.
    case ended
    case failed(any Error)
  }
  private var state = State.unopened
  /// When this began: one that was hung up is none any more.
  private let wasTerminal: Bool

  private init(_ descriptor: CInt, _ name: String, on loop: UVLoop) {
    self.descriptor = descriptor
    self.name = name
    uvLoop = loop
    wasTerminal = isatty(descriptor) == 1
  }

  public static func input(on loop: UVLoop = .shared) -> StandardStream {
    StandardStream(0, "standard input", on: loop)
  }
  public static func output(on loop: UVLoop = .shared) -> StandardStream {
    StandardStream(1, "standard output", on: loop)
  }
  public static func error(on loop: UVLoop = .shared) -> StandardStream {
    StandardStream(2, "standard error", on: loop)
  }

  /// Whether it is a terminal.
  public var isTerminal: Bool { isatty(descriptor) == 1 }

  public var loop: any Loop { uvLoop }

  /// What is beneath; nil when this has ended before it was opened.
  private func opened() throws -> (any PolledDuplexStream<Bytes, Bytes>)? {
    switch state {
    case .open(let stream): return stream
    case .ended: return nil
    case .failed(let error): throw error
    case .unopened:
      do {
        let stream = try open()
        state = .open(stream)
        return stream
      } catch {
        state = .failed(error)
        throw error
      }
    }
  }

  private var stream: (any PolledDuplexStream<Bytes, Bytes>)? {
    if case .open(let stream) = state { stream } else { nil }
  }

  /// Of the two halves, the process has one.
  private var isInput: Bool { descriptor == 0 }

  private func open() throws -> any PolledDuplexStream<Bytes, Bytes> {
    try SharedDescriptor.stream(of: descriptor, isInput: isInput, name: name, on: uvLoop)
  }

  private func quietly<R>(_ body: () throws -> R) throws -> R {
    do { return try body() } catch { throw closedIfGone(error) }
  }

  /// As a pipe that nobody reads, so a terminal that was hung up.
  private func closedIfGone(_ error: any Error) -> any Error {
    if wasTerminal, (error as? IOError)?.code == "EIO" { return StreamError.closed }
    return closedIfUnread(error)
  }

  deinit {
    guard case .open(let stream) = state else { return }
    uvLoop.perform {
      // Another stream of the same descriptor may go on.
      (stream as? SocketStream)?.endsConnection = false
      stream.cancel(nil)
      stream.closeWhenFlushed { _ in }
    }
  }
}

extension StandardStream {
  public func poll() throws -> Polled<Bytes> { try opened()?.poll() ?? .end }
  public func attachReader(_ waker: any Waker) throws { try opened()?.attachReader(waker) }
  public var hasReader: Bool { stream?.hasReader ?? false }
  public func detachReader() { stream?.detachReader() }

  public func cancel(_ reason: (any Error)?) {
    uvLoop.perform {
      if let stream = self.stream { return stream.cancel(reason) }
      if self.isInput { self.endUnopened(.ended) }
    }
  }

  private func endUnopened(_ end: State) {
    if case .unopened = state { state = end }
  }

  public func hasRoom() throws -> Bool {
    guard let stream = try opened() else { throw StreamError.closed }
    return try quietly { try stream.hasRoom() }
  }

  public func push(_ element: consuming Bytes) throws {
    guard let stream = try opened() else { throw StreamError.closed }
    let element = element
    try quietly { try stream.push(element) }
  }
  public var queuedByteCount: Int { stream?.queuedByteCount ?? 0 }
  public func flush() { stream?.flush() }
  public func attachWriter(_ waker: any Waker) throws { try opened()?.attachWriter(waker) }
  public func detachWriter() { stream?.detachWriter() }

  public func abort(_ reason: any Error) {
    uvLoop.perform {
      if let stream = self.stream { stream.abort(reason) } else { self.endUnopened(.failed(reason)) }
    }
  }

  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    guard let stream else {
      if !isInput { endUnopened(.ended) }
      if case .failed(let error) = state, !isInput { return completion(error) }
      return completion(nil)
    }
    stream.closeWhenFlushed { error in completion(error.map(self.closedIfGone)) }
  }
}

/// Standard input and standard output as one duplex stream of bytes.
///
/// ```swift
/// try await bridge(StandardIO(), socket)
/// ```
public final class StandardIO: PolledDuplexStream {
  public typealias Output = Bytes
  public typealias Input = Bytes

  public let input: StandardStream
  public let output: StandardStream

  public init(on loop: UVLoop = .shared) {
    input = .input(on: loop)
    output = .output(on: loop)
  }

  public var endsWithReader: Bool { true }

  public var loop: any Loop { input.loop }
  public func poll() throws -> Polled<Bytes> { try input.poll() }
  public func attachReader(_ waker: any Waker) throws { try input.attachReader(waker) }
  public var hasReader: Bool { input.hasReader }
  public func detachReader() { input.detachReader() }
  public func cancel(_ reason: (any Error)?) { input.cancel(reason) }

  public func hasRoom() throws -> Bool { try output.hasRoom() }
  public func push(_ element: consuming Bytes) throws { try output.push(element) }
  public var queuedByteCount: Int { output.queuedByteCount }
  public func flush() { output.flush() }
  public func attachWriter(_ waker: any Waker) throws { try output.attachWriter(waker) }
  public func detachWriter() { output.detachWriter() }
  public func abort(_ reason: any Error) { output.abort(reason) }
  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    output.closeWhenFlushed(completion)
  }
}
