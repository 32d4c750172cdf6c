import Sluice
import SluiceTestSupport
import Synchronization
import Testing

/// A peer that has taken something and then takes nothing more, so that what waits for it may lie anywhere: below what room is for, and above where a
/// writer is woken.
@Suite("Stalled peers", .timeLimit(.minutes(1)))
struct StalledPeerTests {
  /// Runs a writer against a peer that takes `window` bytes, until it fails.
  /// - Returns: what it failed with; nil if it still waits after ten minutes.
  private func failure(
    window: Int,
    _ begin:
      @escaping @Sendable (SimulatedStream, SimulatedStream) async throws -> (@Sendable () async throws -> Void)
  ) async throws -> String? {
    try await SimulatedLoop.run { loop in
      var network = SimulatedNetwork(loop: loop)
      network.window = window
      let (near, far) = network.connection()
      let write = try await begin(near, far)
      let failure = Mutex<String?>(nil)
      let writing = Task(executorPreference: loop) {
        do { while true { try await write() } } catch { failure.withLock { $0 = "\(error)" } }
      }
      try await loop.sleep(for: .seconds(600))
      let found = failure.withLock { $0 }
      near.abort(StreamError.aborted)
      far.abort(StreamError.aborted)
      await writing.value
      return found
    }
  }

  private static let windows = Array(stride(from: 1000, through: 30_000, by: 1300))

  @Test("a WebSocket's sender hears of it, wherever it stalls", arguments: [100, 5000])
  func webSocket(size: Int) async throws {
    for window in Self.windows {
      let failure = try await failure(window: window) { near, far in
        async let accepted = WebSocket.accept(over: far)
        let client = try await WebSocket.connect("ws://test/", over: near)
        let server = try await accepted
        let message = String(repeating: "m", count: size)
        return {
          try await client.send(message)
          _ = server
        }
      }
      #expect(failure == "\(WebSocketError.stalled(.seconds(60)))", "window \(window)")
    }
  }

  @Test("an event stream's sender hears of it, wherever it stalls", arguments: [100, 5000])
  func events(size: Int) async throws {
    for window in Self.windows {
      let failure = try await failure(window: window) { near, far in
        var options = EventSourceServerOptions()
        options.stallTimeout = .seconds(60)
        let final = options
        async let accepted = EventSource.accept(over: far, options: final)
        try await near.write("GET / HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n")
        let stream = try await accepted
        let event = String(repeating: "e", count: size)
        return {
          try await stream.send(event)
          _ = near
        }
      }
      #expect(failure == "\(EventSourceError.stalled(.seconds(60)))", "window \(window)")
    }
  }
}
