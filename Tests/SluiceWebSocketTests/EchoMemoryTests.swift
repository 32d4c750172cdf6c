import Sluice
import SluiceStreams
import Testing

@testable import SluiceWebSocket

@Suite("What an echo holds between messages", .timeLimit(.minutes(1)))
struct EchoMemoryTests {
  /// Sends bytes to a server's WebSocket that is piped into itself, and looks at what it holds when each part has been dealt with.
  private func holds(after parts: [Bytes], isEchoed: [Bool]) async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let near = try await TCP.connect("127.0.0.1", port: listener.port)
    let far = try #require(try await listener.read())
    async let accepted = WebSocket.accept(over: far)
    try await near.write(SimulatedWire.request)
    _ = try await near.read()
    let server = try await accepted
    let echo = Task(executorPreference: UVLoop.shared) { try await server.pipe(server) }
    for (part, isEchoed) in zip(parts, isEchoed) {
      try await near.write(part)
      if isEchoed { _ = try await near.read() } else { try await Task.sleep(for: .milliseconds(20)) }
      #expect(try await UVLoop.shared.run { server.outgoing.gathered.capacity } == 0, "\(part)")
    }
    near.abort(StreamError.aborted)
    await #expect(throws: (any Error).self) { try await echo.value }
    listener.cancel()
  }

  @Test("nothing behind a message, a part of a frame, a ping, and messages that end inside a frame")
  func nothing() async throws {
    let message = frame(0x82, "message")
    try await holds(
      after: [
        message, message.prefix(3), message.dropFirst(3), frame(0x89, "ping"), message + message.prefix(5),
        message.dropFirst(5),
      ],
      isEchoed: [true, false, true, true, true, true])
  }
}

private func + (a: Bytes, b: Bytes) -> Bytes { Bytes(Array(a) + Array(b)) }
