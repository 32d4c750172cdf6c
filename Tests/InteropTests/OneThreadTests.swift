import Foundation
import Sluice
import SluiceTestSupport
import Testing

/// The program that `swift run examples one-thread` runs.
@Suite("A program whose main thread runs the loop", .timeLimit(.minutes(2)))
struct OneThreadTests {
  private func running(_ body: (_ url: String, _ process: ChildProcess) async throws -> Void) async throws {
    let process = try await ChildProcess.spawn(
      ["\(Repository.root)/.build/debug/examples", "one-thread", "0"],
      environment: Repository.environment.merging(["SWIFT_BACKTRACE": "enable=no"]) { $1 })
    let limit = Task {
      try await Task.sleep(for: .seconds(60))
      process.send(.kill)
    }
    defer { limit.cancel() }
    let result: Result<Void, any Error>
    do {
      let url = try #require(try await process.lines.read())
      result = .success(try await body(url, process))
    } catch { result = .failure(error) }
    process.send(.terminate)
    if case .signalled(_, let signal)? = try await process.waitForExit() { #expect(signal == 15) }
    try result.get()
  }

  @Test("the main actor and the connections take turns on it")
  func mainActor() async throws {
    try await running { url, _ in
      for visitor in 1...5 {
        let ws = try await WebSocket.connect(url)
        #expect(try await ws.read()?.text == "You are visitor \(visitor).")
        try await ws.send("hello")
        #expect(try await ws.read()?.text == "hello")
        try await ws.close(.normal)
      }
    }
  }

  #if os(Linux)
    @Test("it has no other thread")
    func threads() async throws {
      try await running { url, process in
        let sockets = try await withThrowingTaskGroup { group in
          for _ in 0..<20 { group.addTask { try await WebSocket.connect(url) } }
          return try await group.reduce(into: []) { $0.append($1) }
        }
        for ws in sockets {
          try await ws.send("hello")
          while try await ws.read()?.text != "hello" {}
        }
        let threads = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process.processID)/task")
        #expect(threads == ["\(process.processID)"])
        for ws in sockets { try await ws.close(.normal) }
      }
    }
  #endif
}
