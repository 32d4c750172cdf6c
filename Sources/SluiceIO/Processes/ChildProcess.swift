import CSluiceUV
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A child process as a duplex stream of bytes: what is written goes to its standard input, what is read comes from its
/// standard output. Reading ends when the output has ended and the process has exited: with nil after status 0, otherwise by
/// throwing a `ChildProcessError`.
///
/// ```swift
/// let sort = try await ChildProcess.spawn(["sort", "-r"])
/// try await File.open("names").pipe(sort)
/// for try await chunk in sort { … }
/// ```
///
/// `cancel` without a reason closes its standard output, as a shell does at the end of a pipeline: a process that still writes is
/// ended by that, and one that does not may finish its work. `abort`, and `cancel` with a reason, send SIGTERM.
@safe public final class ChildProcess: PolledDuplexStream, LoopResident, @unchecked Sendable {
  // touched on its loop only
  public typealias Output = Bytes
  public typealias Input = Bytes

  /// What becomes of the child's standard error.
  public enum ErrorOutput: Sendable {
    /// It goes where ours goes.
    case inherit
    /// It is dropped.
    case discard
  }

  private let uvLoop: UVLoop
  private let command: String
  /// The process's id.
  public let processID: Int
  private let handle: UnsafeMutablePointer<uv_process_t>
  private let input: SocketStream
  private let output: SocketStream
  private var exit: ChildProcessError??
  private var reader: (any Waker)?
  private var waiting: [LoopWaiter] = []

  /// Starts a program.
  ///
  /// - Parameters:
  ///   - arguments: The program, looked up in PATH, and its arguments.
  ///   - environment: The child's environment; nil, the default, is ours.
  ///   - directory: Where it runs; nil, the default, is where we do.
  /// - Throws: `IOError`: ENOENT if there is no such program, EACCES …
  public static func spawn(
    _ arguments: [String], environment: [String: String]? = nil, directory: String? = nil,
    errorOutput: ErrorOutput = .inherit, on loop: UVLoop = .shared
  ) async throws -> ChildProcess {
    guard let program = arguments.first, !program.isEmpty else {
      throw IOError(operation: "run", subject: "", code: "EINVAL", reason: "no program is named")
    }
    let texts = arguments + (environment ?? [:]).flatMap { [$0.key, $0.value] } + [directory ?? ""]
    guard !texts.contains(where: { $0.utf8.contains(0) }) else {
      throw IOError(operation: "run", subject: program, code: "EINVAL", reason: "an argument holds a NUL")
    }
    return try await loop.run {
      try ChildProcess(
        arguments, environment: environment, directory: directory, errorOutput: errorOutput, on: loop)
    }
  }

  /// Runs a command line in the shell: `sh -c`.
  public static func shell(_ command: String, on loop: UVLoop = .shared) async throws -> ChildProcess {
    try await spawn(["/bin/sh", "-c", command], on: loop)
  }

  private init(
    _ arguments: [String], environment: [String: String]?, directory: String?, errorOutput: ErrorOutput,
    on loop: UVLoop
  ) throws {
    let uv = try unsafe loop.libuv(for: "run", arguments[0])
    var inputPipe = try ChildPipe.open("standard input of \(arguments[0])", on: loop)
    var outputPipe = try ChildPipe.open("standard output of \(arguments[0])", on: loop)
    let process = UnsafeMutablePointer<uv_process_t>.allocate(capacity: 1)
    let argumentList = CStringArray(arguments)
    let environmentList = environment.map { CStringArray($0.map { "\($0.key)=\($0.value)" }) }
    let status = unsafe withUnsafeTemporaryAllocation(of: uv_stdio_container_t.self, capacity: 3) { stdio in
      unsafe stdio[0].flags = UV_INHERIT_FD
      unsafe stdio[0].data.fd = inputPipe.childsEnd
      unsafe stdio[1].flags = UV_INHERIT_FD
      unsafe stdio[1].data.fd = outputPipe.childsEnd
      unsafe stdio[2].flags = errorOutput == .inherit ? UV_INHERIT_FD : UV_IGNORE
      unsafe stdio[2].data.fd = 2
      var options = unsafe uv_process_options_t()
      unsafe options.file = unsafe UnsafePointer(argumentList.base[0])
      unsafe options.args = unsafe argumentList.base
      unsafe options.env = unsafe environmentList?.base
      unsafe options.stdio = stdio.baseAddress
      unsafe options.stdio_count = 3
      unsafe options.exit_cb = { handle, status, signal in
        let this = unsafe Unmanaged<ChildProcess>.fromOpaque(handle!.pointee.data).takeUnretainedValue()
        this.uvLoop.turn { this.didExit(status: status, signal: signal) }
      }
      guard let directory else { return unsafe uv_spawn(uv, process, &options) }
      return unsafe directory.withCString { path in
        unsafe options.cwd = path
        return unsafe uv_spawn(uv, process, &options)
      }
    }
    guard status == 0 else {
      unsafe uv_close(UnsafeMutableRawPointer(process).assumingMemoryBound(to: uv_handle_t.self)) { handle in
        unsafe UnsafeMutableRawPointer(handle!).deallocate()
      }
      throw IOError("run", arguments[0], status: status)
    }
    uvLoop = loop
    command = arguments[0]
    unsafe handle = process
    processID = unsafe Int(process.pointee.pid)
    input = SocketStream(
      inputPipe.watch.handOver(), on: loop, name: "standard input of \(arguments[0])", direction: .writeOnly)
    output = SocketStream(
      outputPipe.watch.handOver(), on: loop, name: "standard output of \(arguments[0])", direction: .readOnly)
    unsafe process.pointee.data = Unmanaged.passRetained(self).toOpaque()
  }

  public var loop: any Loop { uvLoop }

  private func didExit(status: Int64, signal: CInt) {
    let error: ChildProcessError? =
      if signal != 0 {
        .signalled(command: command, signal: signal)
      } else if status != 0 {
        .exited(command: command, status: Int(clamping: status))
      } else {
        nil
      }
    exit = .some(error)
    uvLoop.closesOnLibuv()
    unsafe uv_close(UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_handle_t.self)) { handle in
      unsafe Unmanaged<ChildProcess>.fromOpaque(handle!.pointee.data).release()
      unsafe UnsafeMutableRawPointer(handle!).deallocate()
    }
    // Nobody will read the rest.
    if input.queuedByteCount == 0 { input.closeWhenFlushed { _ in } } else { input.abort(StreamError.closed) }
    for waiter in waiting { waiter.wake() }
    waiting = []
    reader?.wakeReader()
  }

  /// Waits until the process has exited, whatever is read of it.
  /// - Returns: nil after status 0, otherwise how it ended.
  /// - Throws: `CancellationError` when the task is cancelled, which does nothing to the process.
  public func waitForExit() async throws -> ChildProcessError? {
    try await withTaskExecutorPreference(uvLoop) {
      while true {
        if case .some(let error) = exit { return error }
        let waiter = LoopWaiter()
        waiting.append(waiter)
        defer { waiting.removeAll { $0 === waiter } }
        try await waiter.wait(on: uvLoop)
      }
    }
  }

  /// Sends a signal; does nothing if the process has exited.
  public func send(_ signal: Signal) {
    uvLoop.perform {
      if case .none = self.exit { unsafe uv_process_kill(self.handle, signal.number) }
    }
  }
}

extension ChildProcess {
  public func poll() throws -> Polled<Bytes> {
    let polled = try output.poll()
    guard case .end = polled else { return polled }
    guard case .some(let error) = exit else { return .pending }
    if let error { throw error }
    return .end
  }

  public func attachReader(_ waker: any Waker) throws {
    try output.attachReader(waker)
    reader = waker
  }

  public var hasReader: Bool { reader != nil }

  public func detachReader() {
    reader = nil
    output.detachReader()
  }

  public func cancel(_ reason: (any Error)?) {
    output.cancel(reason)
    if reason != nil { send(.terminate) }
  }

  /// - Throws: `StreamError.closed` once the process has closed its input or exited: it wants no more.
  public func hasRoom() throws -> Bool {
    do { return try input.hasRoom() } catch { throw Self.inputFailure(error) }
  }

  /// A process that no longer reads is no failure.
  private static func inputFailure(_ error: any Error) -> any Error {
    guard let failure = error as? IOError, failure.code == "EPIPE" || failure.code == "ECONNRESET" else { return error }
    return StreamError.closed
  }

  public func push(_ element: consuming Bytes) throws { try input.push(element) }
  public var needsFlush: Bool { input.needsFlush }
  public var queuedByteCount: Int { input.queuedByteCount }
  public func flush() { input.flush() }
  public func attachWriter(_ waker: any Waker) throws { try input.attachWriter(waker) }
  public func detachWriter() { input.detachWriter() }

  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    input.closeWhenFlushed { error in completion(error.map(Self.inputFailure)) }
  }

  public func abort(_ reason: any Error) {
    input.abort(reason)
    output.abort(reason)
    send(.terminate)
  }

  /// The loop lives until the process has exited.
  func loopWillEnd() { abort(IOError("run", command, status: UV_ECANCELED.rawValue)) }
}

/// How a child process ended other than with status 0.
public enum ChildProcessError: Error, Hashable, Sendable, CustomStringConvertible {
  case exited(command: String, status: Int)
  case signalled(command: String, signal: Int32)

  public var description: String {
    switch self {
    case .exited(let command, let status): "\(command) exited with status \(status)"
    case .signalled(let command, let signal): "\(command) was ended by signal \(signal)"
    }
  }
}

/// What connects a child to us: a pair of sockets, so that a shutdown of our end is an end for the child.
private struct ChildPipe: ~Copyable {
  /// Over our end.
  var watch: DescriptorWatch
  /// What the child inherits; closed when this goes.
  let childsEnd: CInt

  static func open(_ name: String, on loop: UVLoop) throws -> ChildPipe {
    var ends: (ours: CInt, childs: CInt) = (-1, -1)
    let status = unsafe withUnsafeMutableBytes(of: &ends) {
      unsafe sluice_socket_pair($0.baseAddress?.assumingMemoryBound(to: CInt.self))
    }
    guard status == 0 else { throw IOError("open", name, status: status) }
    do {
      let watch = try DescriptorWatch(ends.ours, blocks: true, on: loop, operation: "open", subject: name)
      return ChildPipe(watch: watch, childsEnd: ends.childs)
    } catch {
      _ = closeDescriptor(ends.childs)
      throw error
    }
  }

  deinit { _ = closeDescriptor(childsEnd) }
}

/// Strings in the form that `exec` takes.
@safe private final class CStringArray {
  let base: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
  private let count: Int

  init(_ strings: [String]) {
    count = strings.count
    unsafe base = .allocate(capacity: strings.count + 1)
    for (index, string) in strings.enumerated() {
      unsafe (base + index).initialize(to: strdup(string))
    }
    unsafe (base + count).initialize(to: nil)
  }

  deinit {
    for index in 0..<count { unsafe free(base[index]) }
    unsafe base.deallocate()
  }
}
