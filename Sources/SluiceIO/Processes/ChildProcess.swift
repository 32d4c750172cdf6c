import CSluiceUV
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A child process as a duplex stream of bytes: what is written goes to its standard input, what is read comes from its
/// standard output; both are pipes. Reading ends when the output has ended and the process has exited: with nil after status 0, otherwise by
/// throwing a `ChildProcessError`, behind all of the output. That a process was ended because its output was cancelled is no error.
///
/// ```swift
/// let sort = try await ChildProcess.spawn(["sort", "-r"])
/// try await File.open("names").pipe(sort)
/// for try await chunk in sort { … }
/// ```
///
/// The process leads a session of its own, without a terminal: a key that interrupts us does not reach it. What is said here of its end concerns all
/// of its group: what it has started too, unless that has made a session for itself.
///
/// When nobody wants it any more it has two seconds to end by itself, then gets SIGTERM, and two seconds later SIGKILL; `Ending` has these times. That is so
///
/// - once its output was cancelled and its input has ended, or at once if it was cancelled for a reason;
/// - once it has exited, and its output has ended or was cancelled, for what it has left running;
/// - when `end` is called;
/// - when our own process ends, however it does.
///
/// `abort` sends SIGTERM at once. As long as somebody reads its output, or its input is open, it may take its time.
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

  /// How a process, with all of its group, is ended when nobody wants it any more.
  public struct Ending: Sendable {
    /// How long it may do nothing, from the end of its input, until it gets SIGTERM. Default: 2 seconds.
    public var terminateAfter: Duration
    /// How long it may go on after that, until it gets SIGKILL. Default: 2 seconds.
    public var killAfter: Duration
    /// Whether it is ended so, too, when our own process has exited or died. Default: true.
    ///
    /// A small process that outlives ours, a shell, sees to that; it is started with the first command.
    public var followsUs: Bool

    public init(
      terminateAfter: Duration = .seconds(2), killAfter: Duration = .seconds(2), followsUs: Bool = true
    ) {
      self.terminateAfter = terminateAfter
      self.killAfter = killAfter
      self.followsUs = followsUs
    }
  }

  private let uvLoop: UVLoop
  private let command: String
  /// The process's id, which is its group's too.
  public let processID: Int
  private let handle: UnsafeMutablePointer<uv_process_t>
  private let group: ProcessGroup
  private let input: SocketStream
  private let output: SocketStream
  private var isInputGrown = false
  private let isTerminal: Bool
  /// Of a process in a terminal, until its input has ended: whether what was typed last ends a line.
  private var typing: Typing?

  private enum Typing {
    case atLineStart
    case withinLine
  }
  /// Of a terminal whose process has exited: how much can still be there of what that has written.
  private var rest: TerminalRest?

  private struct TerminalRest {
    /// More than a terminal holds for its reader.
    var byteCount = 256 << 10
    /// Whether all of it can be read by now: the system hands on what was written a little later.
    var hasArrived = false

    static let delay = Duration.milliseconds(100)
  }
  /// Whether the output has ended, or nobody will read any more of it.
  private var isOutputOver = false
  private var isCancelled = false
  private var isAskedToEnd = false
  private var exit: ChildProcessError??
  private var waiting: [LoopWaiter] = []

  /// Starts a program.
  ///
  /// - Parameters:
  ///   - arguments: The program, looked up in PATH, and its arguments.
  ///   - environment: The child's environment; nil, the default, is ours. `CGIVariables` has what a connection adds to it.
  ///   - directory: Where it runs; nil, the default, is where we do.
  ///   - ending: How it is ended when nobody wants it any more.
  /// - Throws: `IOError`: ENOENT if there is no such program, EACCES, EMFILE …; EINVAL for a NUL, or a variable without a name or with `=` in it.
  public static func spawn(
    _ arguments: [String], environment: [String: String]? = nil, directory: String? = nil,
    errorOutput: ErrorOutput = .inherit, ending: Ending = Ending(), on loop: UVLoop = .shared
  ) async throws -> ChildProcess {
    try await spawn(
      arguments, environment: environment, directory: directory, errorOutput: errorOutput, ending: ending, window: nil,
      on: loop)
  }

  /// - Parameter window: Of its terminal; nil for a process with pipes.
  static func spawn(
    _ arguments: [String], environment: [String: String]?, directory: String? = nil,
    errorOutput: ErrorOutput = .inherit, ending: Ending, window: WindowSize?, on loop: UVLoop
  ) async throws -> ChildProcess {
    guard let program = arguments.first, !program.isEmpty else {
      throw IOError(operation: "run", subject: "", code: "EINVAL", reason: "the program name is missing")
    }
    let texts = arguments + (environment ?? [:]).flatMap { [$0.key, $0.value] } + [directory ?? ""]
    guard !texts.contains(where: { $0.utf8.contains(0) }) else {
      throw IOError(operation: "run", subject: program, code: "EINVAL", reason: "an argument contains a NUL byte")
    }
    if let name = environment?.keys.first(where: { $0.isEmpty || $0.utf8.contains(UInt8(ascii: "=")) }) {
      throw IOError(
        operation: "run", subject: program, code: "EINVAL", reason: "invalid environment variable name '\(name)'")
    }
    return try await loop.run {
      try ChildProcess(
        arguments, environment: environment, directory: directory, errorOutput: errorOutput, ending: ending,
        window: window, on: loop)
    }
  }

  /// Runs a command line in the shell: `sh -c`.
  public static func shell(
    _ command: String, environment: [String: String]? = nil, ending: Ending = Ending(), on loop: UVLoop = .shared
  ) async throws -> ChildProcess {
    try await spawn(["/bin/sh", "-c", command], environment: environment, ending: ending, on: loop)
  }

  /// The environment of our own process, which a child has where no other is given.
  public static var inheritedEnvironment: [String: String] {
    var items: UnsafeMutablePointer<uv_env_item_t>?
    var count: CInt = 0
    guard unsafe uv_os_environ(&items, &count) == 0, let items = unsafe items else { return [:] }
    defer { unsafe uv_os_free_environ(items, count) }
    var environment: [String: String] = [:]
    for index in 0..<Int(count) {
      let item = unsafe items[index]
      // Of two of one name, getenv finds the first.
      let name = unsafe String(cString: item.name)
      if environment[name] == nil { environment[name] = unsafe String(cString: item.value) }
    }
    return environment
  }

  private init(
    _ arguments: [String], environment: [String: String]?, directory: String?, errorOutput: ErrorOutput,
    ending: Ending, window: WindowSize?, on loop: UVLoop
  ) throws {
    let uv = try unsafe loop.libuv(for: "run", arguments[0])
    let names = (input: "standard input of \(arguments[0])", output: "standard output of \(arguments[0])")
    let terminal = try window.map { try Pseudoterminal($0) }
    var inputPipe = try ChildPipe.open(names.input, isRead: false, terminal, on: loop)
    var outputPipe = try ChildPipe.open(names.output, isRead: true, terminal, on: loop)
    let arguments = arguments.map { argument in
      if let terminal, argument == Self.terminalPlace { terminal.path } else { argument }
    }
    let process = UnsafeMutablePointer<uv_process_t>.allocate(capacity: 1)
    let argumentList = CStringArray(arguments)
    let environmentList = environment.map { CStringArray($0.map { "\($0.key)=\($0.value)" }) }
    let (childsInput, childsOutput) = (inputPipe.childsEnd, outputPipe.childsEnd)
    let status = unsafe withUnsafeTemporaryAllocation(of: uv_stdio_container_t.self, capacity: 3) { stdio in
      unsafe stdio[0].flags = UV_INHERIT_FD
      unsafe stdio[0].data.fd = childsInput
      unsafe stdio[1].flags = UV_INHERIT_FD
      unsafe stdio[1].data.fd = childsOutput
      unsafe stdio[2].flags = errorOutput == .inherit ? UV_INHERIT_FD : UV_IGNORE
      unsafe stdio[2].data.fd = window == nil ? 2 : childsOutput
      var options = unsafe uv_process_options_t()
      unsafe options.file = unsafe UnsafePointer(argumentList.base[0])
      unsafe options.args = unsafe argumentList.base
      unsafe options.env = unsafe environmentList?.base
      unsafe options.stdio = stdio.baseAddress
      unsafe options.stdio_count = 3
      // setsid: a session of its own, and a group.
      unsafe options.flags = UV_PROCESS_DETACHED.rawValue
      unsafe options.exit_cb = { handle, status, signal in
        let this = unsafe Unmanaged<ChildProcess>.fromOpaque(handle!.pointee.data).takeUnretainedValue()
        this.uvLoop.turn { this.didExit(status: status, signal: signal) }
      }
      guard let directory else { return unsafe Self.start(uv, process, &options) }
      return unsafe directory.withCString { path in
        unsafe options.cwd = path
        return unsafe Self.start(uv, process, &options)
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
    group = unsafe ProcessGroup(process.pointee.pid, ending, on: loop)
    input = SocketStream(
      inputPipe.watch.handOver(), on: loop, name: names.input, direction: .writeOnly, isSocket: false)
    output = SocketStream(
      outputPipe.watch.handOver(), on: loop, name: names.output, direction: .readOnly, isSocket: false)
    isTerminal = window != nil
    typing = isTerminal ? .atLineStart : nil
    unsafe process.pointee.data = Unmanaged.passRetained(self).toOpaque()
  }

  /// - Returns: a libuv status.
  private static func start(
    _ loop: UnsafeMutablePointer<uv_loop_t>, _ process: UnsafeMutablePointer<uv_process_t>,
    _ options: inout uv_process_options_t
  ) -> CInt {
    var status: CInt = 0
    Orphans.excluding {
      status = unsafe uv_spawn(loop, process, &options)
      return unsafe status == 0 ? process.pointee.pid : nil
    }
    return status
  }

  deinit {
    // It has exited. What nobody has read is given up.
    output.cancel(nil)
    uvLoop.perform { [group] in group.release { 0 } }
  }

  public var loop: any Loop { uvLoop }

  private func didExit(status: Int64, signal: CInt) {
    Orphans.include(pid_t(processID))
    group.leaderDidExit()
    let error: ChildProcessError? =
      if signal != 0 {
        .signalled(command: command, signal: signal)
      } else if status != 0 {
        .exited(command: command, status: Int(clamping: status))
      } else {
        nil
      }
    exit = .some(error)
    if isTerminal {
      rest = TerminalRest()
      _ = uvLoop.schedule(after: TerminalRest.delay) { [weak self] in
        self?.rest?.hasArrived = true
        self?.output.tellReader()
      }
    }
    uvLoop.closesOnLibuv()
    unsafe uv_close(UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_handle_t.self)) { handle in
      unsafe Unmanaged<ChildProcess>.fromOpaque(handle!.pointee.data).release()
      unsafe UnsafeMutableRawPointer(handle!).deallocate()
    }
    // Nobody will read the rest.
    if input.queuedByteCount == 0 { input.closeWhenFlushed { _ in } } else { input.abort(StreamError.closed) }
    releaseIfUnwanted()
    for waiter in waiting { waiter.wake() }
    waiting = []
    output.tellReader()
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

  /// Sends a signal to the process and its group; does nothing if nothing of it runs any more.
  public func send(_ signal: Signal) {
    uvLoop.perform { self.group.signal(signal) }
  }
}

// MARK: ending

extension ChildProcess {
  /// Asks the process to end: its input ends behind what was written, after a while it gets SIGTERM, and after another SIGKILL
  /// (`Ending`). What it still gives can be read.
  public func end() {
    uvLoop.perform {
      self.isAskedToEnd = true
      self.typeEnd()
      self.input.closeWhenFlushed { _ in }
      self.release()
    }
  }

  private func release() {
    group.release { [input] in input.sentByteCount ?? 0 }
  }

  /// Nobody reads it, and it has nothing more to read.
  private func releaseIfUnwanted() {
    if isOutputOver && isInputOver { release() }
  }

  private var isInputOver: Bool {
    do { _ = try input.hasRoom() } catch { return true }
    return false
  }

  public func cancel(_ reason: (any Error)?) {
    uvLoop.perform {
      self.output.cancel(reason)
      self.isOutputOver = true
      self.isCancelled = true
      if reason != nil { self.release() } else { self.releaseIfUnwanted() }
    }
  }

  /// Sends SIGTERM to all of its group, drops what is queued, and closes its input and output. What was cut off is not taken for
  /// the whole: the signal comes before the end of the input.
  public func abort(_ reason: any Error) {
    uvLoop.perform {
      self.group.terminate()
      self.isOutputOver = true
      self.input.abort(reason)
      self.output.abort(reason)
    }
  }

  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    typeEnd()
    input.closeWhenFlushed { error in completion(error.map(Self.inputFailure)) }
    releaseIfUnwanted()
  }

  /// A terminal has no half to close: its user types Control-D, twice where that ends no line but only sends what was typed of it.
  private func typeEnd() {
    guard let typing, (try? input.hasRoom()) != nil else { return }
    self.typing = nil
    let end = output.endCharacter
    try? input.push(Bytes(typing == .atLineStart ? [end] : [end, end]))
  }

  func setWindow(_ window: WindowSize) { output.setWindow(columns: window.columns, rows: window.rows) }

  /// The loop lives until the process has exited.
  func loopWillEnd() { abort(IOError("run", command, status: UV_ECANCELED.rawValue)) }
}

// MARK: reading and writing

extension ChildProcess {
  public func poll() throws -> Polled<Bytes> {
    let polled = try isTerminal ? pollTerminal() : output.poll()
    guard case .end = polled else { return polled }
    isOutputOver = true
    guard case .some(let error) = exit else { return .pending }
    releaseIfUnwanted()
    if let error, !isOurDoing(error) { throw error }
    return .end
  }

  /// A terminal ends with the process that it was made for, behind what that has written there, whoever else has it open.
  private func pollTerminal() throws -> Polled<Bytes> {
    if isOutputOver || rest.map({ $0.byteCount <= 0 }) == true { return endTerminal() }
    do {
      let polled = try output.poll()
      switch polled {
      case .element(let bytes): rest?.byteCount -= bytes.count
      case .pending: if rest?.hasArrived == true { return endTerminal() }
      case .end: break
      }
      return polled
    } catch let error as IOError where error.code == "EIO" {
      // Linux's word for a terminal that nobody has open any more.
      return .end
    }
  }

  private func endTerminal() -> Polled<Bytes> {
    output.cancel(nil)
    return .end
  }

  /// Whether a process has ended so because nobody wanted it any more, which is no failure of its own.
  private func isOurDoing(_ error: ChildProcessError) -> Bool {
    guard isCancelled, !isAskedToEnd else { return false }
    return group.wasTerminated || error == .signalled(command: command, signal: SIGPIPE)
  }

  public func attachReader(_ waker: any Waker) throws { try output.attachReader(waker) }
  public var hasReader: Bool { output.hasReader }
  public func detachReader() { output.detachReader() }

  /// - Throws: `StreamError.closed` once the process has closed its input or exited: it wants no more.
  public func hasRoom() throws -> Bool {
    do { return try input.hasRoom() } catch {
      releaseIfUnwanted()
      throw Self.inputFailure(error)
    }
  }

  /// A process that no longer reads is no failure.
  private static func inputFailure(_ error: any Error) -> any Error {
    guard let failure = error as? IOError, failure.code == "EPIPE" else { return error }
    return StreamError.closed
  }

  public func push(_ element: consuming Bytes) throws {
    if typing != nil, let last = element.last {
      typing = last == UInt8(ascii: "\n") || last == UInt8(ascii: "\r") ? .atLineStart : .withinLine
    }
    do { try input.push(element) } catch { throw Self.inputFailure(error) }
  }
  public var queuedByteCount: Int { input.queuedByteCount }

  public func flush() {
    input.flush()
    // What is not taken at once may be much: a file through a pipe of the usual size takes three times as long. The pipes of all processes of a
    // user share a limit, so that only those are larger that need it.
    if !isInputGrown && input.queuedByteCount > 0 {
      isInputGrown = true
      input.growPipe()
    }
  }

  public func attachWriter(_ waker: any Waker) throws { try input.attachWriter(waker) }
  public func detachWriter() { input.detachWriter() }
}

/// How a child process ended other than with status 0.
public enum ChildProcessError: Error, Hashable, Sendable, CustomStringConvertible {
  case exited(command: String, status: Int)
  case signalled(command: String, signal: Int32)

  public var description: String {
    switch self {
    case .exited(let command, let status): "\(command) exited with status \(status)"
    case .signalled(let command, let signal): "\(command) was terminated by signal \(signal)"
    }
  }
}

/// What connects a child to us: a pipe, which it can open by its name too (`/dev/stdin`), or one half of a terminal.
private struct ChildPipe: ~Copyable {
  /// Over our end.
  var watch: DescriptorWatch
  /// What the child inherits; closed when this goes.
  let childsEnd: CInt

  /// - Parameter isRead: Whether we read what the child writes.
  static func open(
    _ name: String, isRead: Bool, _ terminal: Pseudoterminal?, on loop: UVLoop
  ) throws -> ChildPipe {
    let (ours, childs) = try terminal?.anotherHalf() ?? pipe(name, isRead: isRead)
    do {
      return ChildPipe(watch: try DescriptorWatch(ours, on: loop, operation: "open", subject: name), childsEnd: childs)
    } catch {
      _ = closeDescriptor(childs)
      throw error
    }
  }

  private static func pipe(_ name: String, isRead: Bool) throws -> (ours: CInt, childs: CInt) {
    var ends: (reading: CInt, writing: CInt) = (-1, -1)
    let ourFlags = CInt(UV_NONBLOCK_PIPE.rawValue)
    let status = unsafe withUnsafeMutableBytes(of: &ends) {
      unsafe uv_pipe(
        $0.baseAddress?.assumingMemoryBound(to: uv_file.self), isRead ? ourFlags : 0, isRead ? 0 : ourFlags)
    }
    guard status == 0 else { throw IOError("open", name, status: status) }
    return isRead ? (ends.reading, ends.writing) : (ends.writing, ends.reading)
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
