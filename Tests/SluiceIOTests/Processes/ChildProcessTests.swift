import SluiceIO
import SluiceStreams
import SystemPackage
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

@Suite("Child processes", .timeLimit(.minutes(1)))
struct ChildProcessTests {
  @Test("input, output and end")
  func sort() async throws {
    let child = try await ChildProcess.spawn(["sort", "-r"])
    try await child.write("a\nb\n")
    try await child.close()
    #expect(try await child.collect(limit: 100) == "b\na\n")
    #expect(try await child.waitForExit() == nil)
  }

  @Test("environment and exit status")
  func status() async throws {
    let child = try await ChildProcess.spawn(
      ["/bin/sh", "-c", "printf $WORD; exit 3"], environment: ["WORD": "word", "PATH": "/bin:/usr/bin"])
    #expect(try await child.read() == "word")
    await #expect(throws: ChildProcessError.exited(command: "/bin/sh", status: 3)) { try await child.read() }
  }

  @Test("a program that is not there, and a NUL in an argument, are errors")
  func errors() async throws {
    await #expect(throws: IOError.self) { try await ChildProcess.spawn(["/nonexistent/program"]) }
    await #expect(throws: IOError.self) { try await ChildProcess.spawn(["echo", "a\0b"]) }
    await #expect(throws: IOError.self) { try await ChildProcess.spawn([]) }
  }

  @Test("a child that is aborted gets SIGTERM")
  func abort() async throws {
    let child = try await ChildProcess.spawn(["sleep", "1000"])
    child.abort(StreamError.aborted)
    #expect(try await child.waitForExit() == .signalled(command: "sleep", signal: 15))
  }

  @Test("a child that has exited wants no more, whoever else holds its input")
  func exited() async throws {
    let child = try await ChildProcess.shell("sleep 1 <&0 >/dev/null & exit 0")
    #expect(try await child.waitForExit() == nil)
    await #expect(throws: StreamError.closed) { try await child.write("late") }
    try await child.close()
  }

  @Test("a write that waits when the child exits ends")
  func exitsDuringWrite() async throws {
    let child = try await ChildProcess.shell("sleep 1 <&0 >/dev/null & sleep 0.1; exit 0")
    await #expect(throws: StreamError.closed) {
      while true { try await child.write(Bytes([UInt8](repeating: 0, count: 65536))) }
    }
  }

  @Test("waiting for an exit can be cancelled, and does nothing to the child")
  func cancelledWait() async throws {
    let child = try await ChildProcess.spawn(["sleep", "1000"])
    let waiting = Task { try await child.waitForExit() }
    try await Task.sleep(for: .milliseconds(20))
    waiting.cancel()
    await #expect(throws: CancellationError.self) { try await waiting.value }
    child.abort(StreamError.aborted)
    #expect(try await child.waitForExit() == .signalled(command: "sleep", signal: 15))
  }

  @Test("a child that closes its input wants no more")
  func closedInput() async throws {
    let child = try await ChildProcess.shell("exec <&-; sleep 0.2")
    await #expect(throws: StreamError.closed) {
      while true { try await child.write(Bytes([UInt8](repeating: 0, count: 65536))) }
    }
  }

  @Test(
    "standard streams can be opened by their names",
    arguments: ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"], ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
  func names(input: String, output: String) async throws {
    let child = try await ChildProcess.shell("cat \(input) >\(output)")
    try await child.write("through")
    try await child.close()
    #expect(try await child.collect(limit: 100) == "through")
  }

  @Test(
    "all output comes before the status is told, whatever the status",
    arguments: [
      ("exit 0", nil), ("exit 3", .exited(command: "/bin/sh", status: 3)),
      ("kill -9 $$", .signalled(command: "/bin/sh", signal: 9)),
    ] as [(String, ChildProcessError?)])
  func outputFirst(end: String, failure: ChildProcessError?) async throws {
    let child = try await ChildProcess.shell("head -c 1000000 /dev/zero; \(end)")
    // It has exited, as far as it can with what does not fit into the pipe.
    try await Task.sleep(for: .milliseconds(200))
    var count = 0
    do {
      while let chunk = try await child.read() { count += chunk.count }
      #expect(failure == nil)
    } catch let error as ChildProcessError {
      #expect(error == failure)
    }
    #expect(count == 1_000_000)
  }

  @Test("what a command leaves running may still write, while somebody reads")
  func lateOutput() async throws {
    let child = try await ChildProcess.shell("(sleep 0.5; echo late) & echo early")
    #expect(try await child.waitForExit() == nil)
    #expect(try await child.collect(limit: 100) == "early\nlate\n")
  }

  @Test("a variable's name can't set another one", arguments: ["", "A=B", "A\0"])
  func variableNames(name: String) async throws {
    await #expect(throws: IOError.self) { try await ChildProcess.shell("true", environment: [name: "x"]) }
  }

  @Test("input that was cut off is not taken for the whole: the signal comes first")
  func cutOff() async throws {
    let file = "/tmp/sluice-test-\(UInt64.random(in: 0 ... .max))"
    defer { unsafe unlink(file) }
    for _ in 0..<20 {
      let child = try await ChildProcess.shell("cat >/dev/null; echo whole >\(file)")
      try await child.write("half")
      child.abort(StreamError.aborted)
      #expect(try await child.waitForExit() == .signalled(command: "/bin/sh", signal: 15))
    }
    let exists = unsafe access(file, F_OK) == 0
    #expect(!exists)
  }

  @Test("a command that gets on with its input has its time anew, and all of it")
  func slowReader() async throws {
    let ending = ChildProcess.Ending(terminateAfter: .seconds(1), killAfter: .seconds(5))
    let file = "/tmp/sluice-test-\(UInt64.random(in: 0 ... .max))"
    defer { unsafe unlink(file) }
    // 16 reads of 64 KiB, 0.2 s each.
    let child = try await ChildProcess.shell(
      "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do head -c 65536; sleep 0.2; done >\(file)", ending: ending)
    let count = 1 << 20
    try await child.loop.run { try child.push(Bytes([UInt8](repeating: 1, count: count))) }
    async let closed: Void = child.close()
    child.cancel(StreamError.aborted)
    try await closed
    #expect(try await child.waitForExit() == nil)
    #expect(try await File.open(FilePath(file)).collect(limit: count).count == count)
  }
}

/// How many processes of a command's session run; those that have exited and nobody has waited for do not.
private func survivors(of session: Int) async throws -> Int {
  let all = try await ChildProcess.shell("cat /proc/[0-9]*/stat 2>/dev/null; exit 0").collect(limit: 10 << 20).string
  return all.split(separator: "\n").count { line in
    // Behind the command's name in parentheses: state, parent, group, session.
    guard let end = line.lastIndex(of: ")") else { return false }
    let fields = line[end...].split(separator: " ")
    return fields.count > 4 && fields[1] != "Z" && fields[4] == "\(session)"
  }
}

@Suite("What is left of child processes (ATTACKS 58)", .timeLimit(.minutes(2)))
struct ChildProcessEndTests {
  /// Commands that do not end by themselves, or leave what does not.
  static let commands = [
    "silent": "sleep 1000", "a pipeline": "sleep 1000 | sleep 1000; sleep 1000",
    "not reading": "while :; do sleep 1000; done", "writing": "while echo x; do :; done; sleep 1000",
    "deaf to SIGTERM": "trap '' TERM; sleep 1000; sleep 1000", "stopped": "kill -STOP $$; sleep 1000",
    "without its streams": "exec <&- >&-; sleep 1000", "exited, with grandchildren": "sleep 1000 & sleep 1000 & exit 3",
    "exited, with grandchildren without streams": "sleep 1000 <&- >&- 2>&- & exit 0",
    "killed, with deaf grandchildren": "(trap '' TERM HUP INT; sleep 1000) & kill -9 $$",
    "reading": "cat; sleep 1000",
    "in groups of their own": "timeout 1000 sleep 1000 & timeout 1000 sleep 1000 | sleep 1000",
    "exited, with groups of their own": "timeout 1000 sleep 1000 >/dev/null & exit 0",
    "with job control": "set -m; sleep 1000 & sleep 1000 & wait",
  ]

  enum End: String, CaseIterable {
    case closeAndCancel, cancelAndClose, cancelForAReason, abort, end, pipedFromAndTo
  }

  @Test("nothing, whatever the command does, however it is ended", arguments: End.allCases)
  func matrix(end: End) async throws {
    try await withThrowingTaskGroup { group in
      for command in Self.commands.keys { group.addTask { try await left(by: command, endedBy: end) } }
      try await group.waitForAll()
    }
  }

  private func left(by command: String, endedBy end: End) async throws {
    let child = try await ChildProcess.shell(
      Self.commands[command] ?? "",
      ending: .init(terminateAfter: .milliseconds(200), killAfter: .milliseconds(200)))
    let group = child.processID
    try await Task.sleep(for: .milliseconds(100))
    switch end {
    case .closeAndCancel:
      try? await child.close()
      child.cancel()
    case .cancelAndClose:
      child.cancel()
      try? await child.close()
    case .cancelForAReason: child.cancel(StreamError.aborted)
    case .abort: child.abort(StreamError.aborted)
    case .end: child.end()
    case .pipedFromAndTo:
      // As in the tool: whoever reads has gone.
      try? await SequenceStream(["x"] as [Bytes]).pipe(child)
      let gone = Writable<Bytes> { _ in throw StreamError.closed }
      async let piped: Void = child.pipe(gone)
      child.cancel()
      try? await piped
    }
    let start = ContinuousClock.now
    while try await survivors(of: group) > 0, ContinuousClock.now - start < .seconds(20) {
      try await Task.sleep(for: .milliseconds(20))
    }
    #expect(try await survivors(of: group) == 0, "\(command), \(end): after \(ContinuousClock.now - start)")
  }

  @Test("who reads and writes on may take its time")
  func wanted() async throws {
    let child = try await ChildProcess.shell(
      "sleep 1; cat", ending: .init(terminateAfter: .milliseconds(50), killAfter: .milliseconds(50)))
    try await child.write("late")
    try await child.close()
    #expect(try await child.collect(limit: 100) == "late")
    // Nor does a command end that nobody reads while it is written to.
    let sink = try await ChildProcess.shell(
      "sleep 1; cat >/dev/null; exit 7", ending: .init(terminateAfter: .milliseconds(50), killAfter: .milliseconds(50)))
    sink.cancel()
    try await Task.sleep(for: .milliseconds(500))
    try await sink.write("x")
    #expect(try await survivors(of: sink.processID) > 0)
    try await sink.close()
    _ = try await sink.waitForExit()
  }

  @Test("what was ended because nobody read it has not failed; what was asked to end, or killed by others, has")
  func failures() async throws {
    let ending = ChildProcess.Ending(terminateAfter: .milliseconds(50), killAfter: .milliseconds(50))
    for command in ["sleep 1000", "trap '' TERM; sleep 1000; sleep 1000", "trap 'exit 3' TERM; sleep 1000 & wait"] {
      let unwanted = try await ChildProcess.shell(command, ending: ending)
      try await Task.sleep(for: .milliseconds(50))
      async let rest = unwanted.collect(limit: 1)
      try await Task.sleep(for: .milliseconds(50))
      try await unwanted.close()
      unwanted.cancel()
      #expect(try await rest == "")
      let asked = try await ChildProcess.shell(command, ending: ending)
      try await Task.sleep(for: .milliseconds(50))
      asked.end()
      await #expect(throws: ChildProcessError.self) { try await asked.collect(limit: 1) }
    }
    let writing = try await ChildProcess.spawn(["yes"], ending: ending)
    _ = try await writing.read()
    writing.cancel()
    #expect(try await writing.read() == nil)
    let killed = try await ChildProcess.spawn(["sleep", "1000"], ending: .init())
    killed.cancel()
    killed.send(.kill)
    await #expect(throws: ChildProcessError.signalled(command: "sleep", signal: 9)) { try await killed.read() }
  }

  @Test("a process has a session of its own, and a group that it leads")
  func session() async throws {
    let child = try await ChildProcess.shell("sleep 1000 | sleep 1000")
    #expect(getsid(pid_t(child.processID)) == child.processID && getpgid(pid_t(child.processID)) == child.processID)
    child.send(.terminate)
    #expect(try await child.waitForExit() == .signalled(command: "/bin/sh", signal: 15))
    #expect(try await survivors(of: child.processID) == 0)
  }
}
