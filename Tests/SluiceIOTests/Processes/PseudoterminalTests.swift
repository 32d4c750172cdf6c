import SluiceIO
import SluiceStreams
import Testing

@Suite("Child processes in terminals", .timeLimit(.minutes(1)))
struct PseudoterminalTests {
  @Test("standard input, output and error are one terminal, which the process controls")
  func terminal() async throws {
    let child = try await ChildProcess.terminal(
      "test -t 0 && test -t 1 && test -t 2 && stty size </dev/tty; echo error >&2; exit 3",
      window: .init(columns: 132, rows: 50))
    var shown = ""
    await #expect(throws: ChildProcessError.exited(command: "/bin/sh", status: 3)) {
      while let chunk = try await child.read() { shown += chunk.string }
    }
    #expect(shown == "50 132\r\nerror\r\n")
  }

  @Test("the end of the input is typed, also behind a line that is not ended")
  func endOfInput() async throws {
    for (text, answer) in [("one\n", "one\r\nend\r\n"), ("one", "oneend\r\n"), ("", "end\r\n")] {
      let child = try await ChildProcess.terminal("stty -echo; echo ready; cat; echo end")
      var shown = ""
      while !shown.contains("ready\r\n"), let chunk = try await child.read() { shown += chunk.string }
      if !text.isEmpty { try await child.write(Bytes(text)) }
      try await child.close()
      let rest: Bytes = try await child.collect(limit: 1000)
      shown += rest.string
      #expect(shown == "ready\r\n" + answer)
    }
  }

  @Test("a window that changes is told, and one that nobody wants any more is hung up")
  func window() async throws {
    let child = try await ChildProcess.terminal("trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; done")
    var shown = ""
    while !shown.contains("ready"), let chunk = try await child.read() { shown += chunk.string }
    child.resize(.init(columns: 99, rows: 11))
    while !shown.contains("11 99"), let chunk = try await child.read() { shown += chunk.string }
    child.cancel()
    try await child.close()
    #expect(try await child.waitForExit() == .signalled(command: "/bin/sh", signal: Signal.hangUp.number))
  }
}
