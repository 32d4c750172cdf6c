import SluiceStreams
import Synchronization
import Testing

@testable import SluiceIO

@Suite("Loops that are stopped", .timeLimit(.minutes(1)))
struct StoppedLoopTests {
  /// What a TCP connection between a stopped loop and the shared one is tested with.
  private func connection(on loop: UVLoop) async throws -> (SocketStream, SocketStream) {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    defer { listener.cancel() }
    let near = try await TCP.connect("127.0.0.1", port: listener.port, on: loop)
    return (near, try #require(try await listener.read()))
  }

  /// The loop has no thread any more.
  private func hasEnded(_ loop: UVLoop) async throws {
    for _ in 0..<2000 {
      if try await loop.run({ UVLoop.shared.isCurrent }) { return }
      try await Task.sleep(for: .milliseconds(2))
    }
    Issue.record("the loop has not ended")
  }

  /// What was done for each of several writers.
  private final class Record: Sendable {
    let numbers = Mutex<[[Int]]>(Array(repeating: [], count: 4))
  }

  @Test("work that comes before, while and after it ends runs, all of it and in order")
  func work() async throws {
    for round in 0..<20 {
      let loop = try UVLoop(name: "stopped")
      let done = Record()
      await withTaskGroup(of: Void.self) { group in
        for writer in 0..<4 {
          group.addTask {
            for number in 0..<500 {
              if writer == 0 && number == round * 25 { loop.stop() }
              loop.execute { done.numbers.withLock { $0[writer].append(number) } }
            }
          }
        }
      }
      try await hasEnded(loop)
      // Behind all that was given before.
      _ = try await loop.run { true }
      #expect(done.numbers.withLock { $0 } == Array(repeating: Array(0..<500), count: 4))
    }
  }

  @Test("a task that runs on it goes on, and is still on it")
  func tasks() async throws {
    let loop = try UVLoop(name: "stopped")
    let task = Task(executorPreference: loop) {
      loop.stop()
      for _ in 0..<100 { await Task.yield() }
      try await Task.sleep(for: .milliseconds(50))
      return loop.isCurrent
    }
    #expect(try await task.value)
    try await hasEnded(loop)
    #expect(await Task(executorPreference: loop) { loop.isCurrent }.value)
  }

  @Test("timers fire that were set before, and after")
  func timers() async throws {
    let loop = try UVLoop(name: "stopped")
    let start = ContinuousClock.now
    let early = Task {
      await withCheckedContinuation { continuation in
        loop.execute { _ = loop.schedule(after: .milliseconds(100)) { continuation.resume() } }
      }
    }
    _ = try await loop.run { loop.schedule(after: .seconds(3600)) {} }
    loop.stop()
    try await hasEnded(loop)
    let cancelled = Mutex(true)
    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
      loop.execute {
        let timer = loop.schedule(after: .milliseconds(10)) { cancelled.withLock { $0 = false } }
        loop.cancelTimer(timer)
        _ = loop.schedule(after: .milliseconds(30)) { continuation.resume() }
      }
    }
    await early.value
    #expect(ContinuousClock.now - start >= .milliseconds(100))
    #expect(cancelled.withLock { $0 })
  }

  @Test("what is open on it fails, whoever waits: reads, writes, listeners, connecting, signals")
  func streams() async throws {
    let loop = try UVLoop(name: "stopped")
    let (near, far) = try await connection(on: loop)
    let (idle, idleFar) = try await connection(on: loop)
    let listener = try await TCP.listen("127.0.0.1", port: 0, on: loop)
    let reading = Task { try await near.read() }
    let writing = Task { while true { try await near.write(Bytes([UInt8](repeating: 0, count: 1 << 20))) } }
    let accepting = Task { try await listener.read() }
    let connecting = Task { try await TCP.connect("192.0.2.1", port: 9, on: loop) }
    let signals = Signals([.user2], on: loop)
    let signalled = Task { try await signals.read() }
    try await Task.sleep(for: .milliseconds(50))
    loop.stop()
    await #expect(throws: IOError.self) { try await reading.value }
    await #expect(throws: IOError.self) { try await writing.value }
    await #expect(throws: IOError.self) { try await accepting.value }
    await #expect(throws: IOError.self) { try await connecting.value }
    await #expect(throws: IOError.self) { try await signalled.value }
    try await hasEnded(loop)
    do { _ = try await near.read() } catch let error as IOError { #expect(error.code == "ECANCELED") }
    await #expect(throws: IOError.self) { try await idle.write("late") }
    await #expect(throws: IOError.self) { try await idle.close() }
    idle.abort(StreamError.aborted)
    listener.cancel()
    await #expect(throws: (any Error).self) { while try await idleFar.read() != nil {} }
    far.abort(StreamError.aborted)
    idleFar.abort(StreamError.aborted)
  }

  @Test("nothing new begins on it")
  func beginnings() async throws {
    let loop = try UVLoop(name: "stopped")
    loop.stop()
    try await hasEnded(loop)
    await #expect(throws: IOError.self) { try await TCP.connect("127.0.0.1", port: 9, on: loop) }
    await #expect(throws: IOError.self) { try await TCP.connect("localhost", port: 9, on: loop) }
    await #expect(throws: IOError.self) { try await TCP.listen("127.0.0.1", port: 0, on: loop) }
    await #expect(throws: IOError.self) { try await UnixSocket.listen("@sluice-test-stopped", on: loop) }
    await #expect(throws: IOError.self) { try await UnixSocket.connect("@sluice-test-stopped", on: loop) }
    await #expect(throws: IOError.self) { try await File.open("/dev/null", on: loop) }
    await #expect(throws: IOError.self) { try await File.status(of: "/dev/null", on: loop) }
    await #expect(throws: IOError.self) { try await ChildProcess.shell("true", on: loop) }
    await #expect(throws: IOError.self) { try await Signals([.user2], on: loop).read() }
  }

  @Test("what is being closed is flushed first")
  func closing() async throws {
    let loop = try UVLoop(name: "stopped")
    let (near, far) = try await connection(on: loop)
    let count = 16 << 20
    let closing = Task(executorPreference: loop) {
      try near.push(Bytes([UInt8](repeating: 7, count: count)))
      try await near.close()
    }
    try await Task.sleep(for: .milliseconds(20))
    loop.stop()
    #expect(try await far.collect(limit: count).count == count)
    try await closing.value
    try await hasEnded(loop)
    far.abort(StreamError.aborted)
  }

  @Test("an open file fails, and one that is written is closed")
  func files() async throws {
    let loop = try UVLoop(name: "stopped")
    let zero = try await File.open("/dev/zero", on: loop)
    let null = try await File.append("/dev/null", on: loop)
    let piping = Task { try await zero.pipe(null) }
    try await Task.sleep(for: .milliseconds(20))
    loop.stop()
    await #expect(throws: IOError.self) { try await piping.value }
    try await hasEnded(loop)
    await #expect(throws: (any Error).self) { try await null.write("late") }
  }

  @Test("a child process gets SIGTERM, and its exit is told")
  func process() async throws {
    let loop = try UVLoop(name: "stopped")
    let child = try await ChildProcess.spawn(["sleep", "1000"], on: loop)
    let reading = Task { try await child.read() }
    loop.stop()
    #expect(try await child.waitForExit() == .signalled(command: "sleep", signal: 15))
    await #expect(throws: IOError.self) { try await reading.value }
    try await hasEnded(loop)
    #expect(try await child.waitForExit() == .signalled(command: "sleep", signal: 15))
  }

  @Test("its memory is freed with its last user")
  func memory() async throws {
    weak var weakLoop: UVLoop?
    do {
      let loop = try UVLoop(name: "stopped")
      weakLoop = loop
      let (near, far) = try await connection(on: loop)
      far.abort(StreamError.aborted)
      loop.stop()
      loop.stop()
      try await hasEnded(loop)
      near.abort(StreamError.aborted)
    }
    for _ in 0..<1000 where weakLoop != nil { try await Task.sleep(for: .milliseconds(5)) }
    #expect(weakLoop == nil)
  }

  @Test("the shared loop can't be stopped")
  func shared() async throws {
    UVLoop.shared.stop()
    let (near, far) = try await connection(on: .shared)
    try await near.write("x")
    #expect(try await far.read() == "x")
    near.abort(StreamError.aborted)
    far.abort(StreamError.aborted)
  }
}

@Suite("Turns of a loop", .timeLimit(.minutes(1)))
struct TurnTests {
  private final class EndOfTurnWork: EndOfTurn {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    func endOfTurn() { body() }
  }

  @Test("work for the end of a turn that has used up its jobs is done in the next")
  func longTurn() async throws {
    let loop = try UVLoop(name: "turns")
    defer { loop.stop() }
    let isDone = Atomic(false)
    loop.execute {
      // With this one, as many as a turn runs.
      for _ in 0..<4095 { loop.execute {} }
      loop.atEndOfTurn(EndOfTurnWork { loop.atEndOfTurn(EndOfTurnWork { isDone.store(true, ordering: .relaxed) }) })
    }
    try await Task.sleep(for: .milliseconds(300))
    let wasDone = isDone.load(ordering: .relaxed)
    #expect(wasDone)
  }
}
