import CSluiceUV
import SluiceStreams
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// One of the process's standard streams, whatever it is: terminal, pipe, socket, regular file, /dev/null.
///
/// It is opened when it is first read or written. The descriptor stays open until the process exits: closing the stream flushes
/// it. When nobody reads standard output or error any more (EPIPE), writing throws `StreamError.closed`.
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

  private init(_ descriptor: CInt, _ name: String, on loop: UVLoop) {
    self.descriptor = descriptor
    self.name = name
    uvLoop = loop
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
    switch uv_guess_handle(descriptor) {
    case UV_TTY:
      // Others share the standard stream, and do not expect O_NONBLOCK.
      let own = sluice_reopen_terminal(descriptor, isInput)
      guard own >= 0 else { return try open(shared: descriptor, isSocket: false) }
      let watch = try DescriptorWatch(own, blocks: true, on: uvLoop, operation: "open", subject: name)
      return SocketStream(watch, on: uvLoop, name: name, direction: direction, isSocket: false)
    case UV_NAMED_PIPE, UV_TCP: return try open(shared: descriptor, isSocket: Self.isSocket(descriptor))
    default:
      guard fcntl(descriptor, F_GETFD) >= 0 else { throw IOError("open", name, status: -errno) }
      return File(
        descriptor: descriptor, owned: false, name: name, direction: isInput ? .read : .write, on: uvLoop)
    }
  }

  private var direction: SocketStream.Direction { isInput ? .readOnly : .writeOnly }

  private func open(shared descriptor: CInt, isSocket: Bool) throws -> SocketStream {
    BlockingMode.restoreAtExit(of: descriptor)
    let watch = try DescriptorWatch(
      descriptor, isBorrowed: true, blocks: true, on: uvLoop, operation: "open", subject: name)
    return SocketStream(watch, on: uvLoop, name: name, direction: direction, isSocket: isSocket)
  }

  private static func isSocket(_ descriptor: CInt) -> Bool {
    var status = stat()
    return unsafe fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK
  }

  /// EPIPE is not a failure here: whoever read has had enough.
  private func quietly<R>(_ body: () throws -> R) throws -> R {
    do { return try body() } catch let error as IOError where error.code == "EPIPE" { throw StreamError.closed }
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
  public var needsFlush: Bool { stream?.needsFlush ?? false }
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
    stream.closeWhenFlushed { error in
      if let error = error as? IOError, error.code == "EPIPE" {
        completion(StreamError.closed)
      } else {
        completion(error)
      }
    }
  }
}

/// Standard input and standard output as one duplex stream of bytes.
///
/// ```swift
/// try await bridge(StandardIO(), socket)
/// ```
public struct StandardIO: PolledDuplexStream {
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
  public var needsFlush: Bool { output.needsFlush }
  public var queuedByteCount: Int { output.queuedByteCount }
  public func flush() { output.flush() }
  public func attachWriter(_ waker: any Waker) throws { try output.attachWriter(waker) }
  public func detachWriter() { output.detachWriter() }
  public func abort(_ reason: any Error) { output.abort(reason) }
  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    output.closeWhenFlushed(completion)
  }
}

/// Puts descriptors back as they were found: others, a shell for one, share them and do not expect O_NONBLOCK.
private enum BlockingMode {
  private static let toRestore = Mutex<[CInt: CInt]>([:])
  private static let registered: Void = {
    atexit {
      for (descriptor, flags) in BlockingMode.toRestore.withLock({ $0 }) { _ = fcntl(descriptor, F_SETFL, flags) }
    }
  }()

  static func restoreAtExit(of descriptor: CInt) {
    let flags = fcntl(descriptor, F_GETFL)
    guard flags >= 0, flags & O_NONBLOCK == 0 else { return }
    registered
    toRestore.withLock { $0[descriptor] = flags }
  }
}
