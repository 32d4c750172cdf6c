import SluiceIO
import SluiceStreams
import SluiceTestSupport
import Testing

@Suite("Waiting for a TCP connection in a task that is cancelled", .timeLimit(.minutes(1)))
struct CancelledWaitTests {
  enum Wait: CaseIterable {
    case read, iterate, write, pipe

    func callAsFunction(_ socket: SocketStream) async throws {
      switch self {
      case .read: _ = try await socket.read()
      case .iterate: for try await _ in socket {}
      case .write: while true { try await socket.write(Bytes([UInt8](repeating: 1, count: 64 << 10))) }
      case .pipe: try await socket.pipe(socket)
      }
    }
  }

  @Test("the wait ends, by whomever the task was cancelled", arguments: Wait.allCases, Cancelling.allCases)
  func ends(_ wait: Wait, _ cancelling: Cancelling) async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let client = try await TCP.connect("127.0.0.1", port: listener.port)
    let server = try #require(try await listener.read())
    // A task of its own: the handler's may be the one that is cancelled.
    let handler = Task(executorPreference: UVLoop.shared) { await cancelling.cancel { try await wait(server) } }
    #expect(await handler.value is CancellationError)
    switch wait {
    case .read, .iterate:
      try await client.write("more")
      #expect(try await server.read() == "more")
    // A pipe that is cancelled aborts its sink; what was written before is still under way.
    case .write, .pipe: break
    }
    client.abort(StreamError.aborted)
    server.abort(StreamError.aborted)
    listener.cancel()
  }
}
