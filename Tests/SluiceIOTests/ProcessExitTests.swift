import Foundation
import SluiceIO
import SluiceStreams
import Testing

@Suite("A process that exits", .timeLimit(.minutes(2)))
struct ProcessExitTests {
  @Test("exits with its own status while loops begin and end things", arguments: 0..<10)
  func busyLoops(_ round: Int) async {
    await #expect(processExitsWith: .exitCode(7)) {
      for number in 0..<6 {
        let loop = try UVLoop(name: "busy-\(number)")
        Task(executorPreference: loop) {
          while true {
            let signals = Signals([Signal(number: SIGUSR1)], on: loop)
            let file = try await File.open("/dev/null", on: loop)
            file.cancel()
            signals.cancel(nil)
          }
        }
      }
      try await Task.sleep(for: .milliseconds(60))
      exit(7)
    }
  }

  @Test("exits by a call on a loop's own thread")
  func onLoop() async {
    await #expect(processExitsWith: .exitCode(7)) {
      let loop = try UVLoop()
      _ = try await TCP.listen("127.0.0.1", port: 0)
      loop.execute { exit(7) }
      try await Task.sleep(for: .seconds(60))
    }
  }

  @Test("does not wait long for a loop that computes")
  func computing() async {
    let start = ContinuousClock.now
    await #expect(processExitsWith: .exitCode(7)) {
      let loop = try UVLoop()
      loop.execute { while true {} }
      try await Task.sleep(for: .milliseconds(50))
      exit(7)
    }
    #expect(ContinuousClock.now - start < .seconds(30))
  }
}
