import Sluice
import Testing

@Suite("A bridge to a WebSocket", .timeLimit(.minutes(1)))
struct WebSocketBridgeTests {
  @Test("a program that reads no more is heard to its end, though its peer sends on")
  func readerHasGone() async throws {
    try await SimulatedConnection.run { ends, loop in
      let (program, standardIO) = MemoryStream<Message>.pair()
      let bridged = Task(executorPreference: loop) { try await bridge(standardIO, ends.server) }
      program.cancel()
      let sending = Task(executorPreference: loop) {
        for _ in 0..<200 {
          try await ends.client.send("to nobody")
          try await loop.sleep(for: .milliseconds(10))
        }
      }
      let receiving = Task(executorPreference: loop) {
        var lines: [String?] = []
        for try await line in ends.client { lines.append(line.text) }
        return lines
      }
      for number in 0..<50 {
        try await loop.sleep(for: .milliseconds(20))
        try await program.write(Message("line \(number)"))
      }
      try await program.close()
      #expect(try await receiving.value == (0..<50).map { "line \($0)" })
      try await bridged.value
      sending.cancel()
      _ = await sending.result
    }
  }
}
