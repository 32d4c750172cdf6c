import Dispatch
import Foundation
import SluiceStreams
import Synchronization
import Testing

@testable import SluiceIO

@Suite("The shared loop on a thread of the program's own", .timeLimit(.minutes(1)), .serialized)
struct SharedLoopTests {
  /// Calls `runShared` on a new thread.
  private func host<Success: Sendable>(
    _ body: @escaping @Sendable () async throws -> Success
  ) async throws -> Success {
    try await withCheckedThrowingContinuation { continuation in
      Thread.detachNewThread { continuation.resume(with: Result { try UVLoop.runShared(body) }) }
    }
  }

  #if !canImport(Darwin)
    @Test("a libdispatch that lets nobody run the main queue is an error with a name, not a program that does not link")
    func missingHooks() throws {
      try MainQueue.checkHooks(areThere: true)
      let error = try #require(throws: IOError.self) { try MainQueue.checkHooks(areThere: false) }
      #expect(error.code == "ENOSYS" && error.reason.contains("_dispatch_main_queue_callback_4CF"))
    }
  #endif

  @Test("it moves to the thread with all that is on it, and goes on without it")
  func moves() async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let echo = Task { if let socket = try await listener.read() { try await socket.pipe(socket) } }
    let socket = try await TCP.connect("127.0.0.1", port: listener.port)
    let timer = Task { try await UVLoop.shared.sleep(for: .milliseconds(300)) }
    for round in 0..<3 {
      try await socket.write(Bytes("before \(round)"))
      #expect(try await socket.read() == Bytes("before \(round)"))
      let outside = try await UVLoop.shared.run { pthread_self() }
      let inside = try await host {
        #expect(UVLoop.shared.isCurrent)
        try await socket.write(Bytes("inside \(round)"))
        #expect(try await socket.read() == Bytes("inside \(round)"))
        return try await UVLoop.shared.run { pthread_self() }
      }
      #expect(inside != outside)
    }
    try await timer.value
    try await socket.write("behind")
    #expect(try await socket.read() == "behind")
    try await socket.close()
    #expect(try await socket.read() == nil)
    try await echo.value
    listener.cancel()
  }

  @Test("work that comes while it moves runs, all of it and in order")
  func work() async throws {
    let done = Mutex<[Int]>([])
    let count = 20_000
    async let given: Void = {
      for number in 0..<count {
        UVLoop.shared.execute { done.withLock { $0.append(number) } }
        if number.isMultiple(of: 100) { await Task.yield() }
      }
    }()
    for _ in 0..<50 { try await host {} }
    await given
    _ = try await UVLoop.shared.run { true }
    #expect(done.withLock { $0 } == Array(0..<count))
  }

  @Test("what the body returns or throws comes out of it")
  func outcome() async throws {
    #expect(try await host { 7 } == 7)
    await #expect(throws: StreamError.self) { try await host { throw StreamError.closed } }
  }

  @Test("a second call while it is run, and one on its own thread, are refused")
  func refusals() async throws {
    let refusal = try await host {
      await #expect(throws: IOError.self) { try await self.host {} }
      return try await UVLoop.shared.run { self.refusal }
    }
    #expect(refusal == "EBUSY")
    #expect(try await UVLoop.shared.run { self.refusal } == "EDEADLK")
    try await host {}
  }

  private var refusal: String? {
    do {
      try UVLoop.runShared {}
      return nil
    } catch { return (error as? IOError)?.code }
  }

  @Test("a stopped loop's work goes on, on the shared one wherever that runs")
  func stoppedLoop() async throws {
    let loop = try UVLoop(name: "stopped")
    loop.stop()
    while try await !loop.run({ UVLoop.shared.isCurrent }) { try await Task.sleep(for: .milliseconds(2)) }
    try await host {
      #expect(try await loop.run { UVLoop.shared.isCurrent && loop.isCurrent })
      try await loop.sleep(for: .milliseconds(10))
    }
    #expect(try await loop.run { true })
  }
}
