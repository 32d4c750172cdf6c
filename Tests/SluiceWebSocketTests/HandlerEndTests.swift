import Logging
import Sluice
import SluiceStreams
import SluiceTestSupport
import Synchronization
import Testing

@testable import SluiceWebSocket

@Suite("A handler whose peer has gone", .timeLimit(.minutes(1)))
struct HandlerEndTests {
  enum Leaving: CaseIterable { case close, abort }
  /// What the handler has done before it waits for something else.
  enum Handler: CaseIterable { case hasReadNothing, hasReadOne }

  private final class Seen: Sendable {
    private let lines = Mutex<[String]>([])
    func add(_ line: String) { lines.withLock { $0.append(line) } }
    var all: [String] { lines.withLock { $0 } }
    func wait(for line: String, atMost limit: Duration) async throws -> Bool {
      let end = ContinuousClock.now + limit
      while !all.contains(line), ContinuousClock.now < end { try await Task.sleep(for: .milliseconds(5)) }
      return all.contains(line)
    }
  }

  @Test("who waits for something else is cancelled", arguments: Leaving.allCases, Handler.allCases)
  func cancelled(leaving: Leaving, handler: Handler) async throws {
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    let seen = Seen()
    let running = Task {
      try await server.run { ws in
        if handler == .hasReadOne { _ = try await ws.read() }
        seen.add("waits")
        do { try await Task.sleep(for: .seconds(60)) } catch { seen.add("cancelled") }
      }
    }
    let client = try await WebSocket.connect(server.url)
    if handler == .hasReadOne { try await client.send("subscribe") }
    #expect(try await seen.wait(for: "waits", atMost: .seconds(10)))
    switch leaving {
    case .abort: client.abort(StreamError.aborted)
    // Who has read may be about to answer, and the Close waits for it as long as it may.
    case .close where handler == .hasReadOne:
      client.closeGoingAway()
      try await Task.sleep(for: .milliseconds(50))
      client.abort(StreamError.aborted)
    case .close: try await client.close()
    }
    if leaving == .abort || handler == .hasReadNothing {
      #expect(try await seen.wait(for: "cancelled", atMost: .seconds(8)))
    }
    running.cancel()
    _ = await running.result
    #expect(seen.all.contains("cancelled"))
  }

  @Test("waitUntilClosed returns, also beside a feed that has nothing to send", arguments: Leaving.allCases)
  func untilClosed(leaving: Leaving) async throws {
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    let seen = Seen()
    let running = Task {
      try await server.run { ws in
        seen.add("begin")
        await ws.waitUntilClosed()
        seen.add("over \(Task.isCancelled)")
      }
    }
    let client = try await WebSocket.connect(server.url)
    #expect(try await seen.wait(for: "begin", atMost: .seconds(10)))
    if leaving == .close { try await client.close() } else { client.abort(StreamError.aborted) }
    #expect(try await seen.wait(for: "over false", atMost: .seconds(5)))
    running.cancel()
    _ = await running.result
  }

  @Test("a reader that is behind gets all that came before the connection was lost, and is not cancelled")
  func readerBehind() async throws {
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    let seen = Seen()
    let running = Task {
      try await server.run { ws in
        do {
          for try await message in ws {
            try await Task.sleep(for: .milliseconds(20))
            seen.add(message.text)
          }
        } catch {
          seen.add("lost \(Task.isCancelled)")
        }
      }
    }
    let client = try await WebSocket.connect(server.url)
    for number in 0..<100 { try await client.send("\(number)") }
    // A FIN without a Close.
    try await client.loop.run { client.transport.closeWhenFlushed { _ in } }
    #expect(try await seen.wait(for: "lost false", atMost: .seconds(20)))
    #expect(seen.all == (0..<100).map { "\($0)" } + ["lost false"])
    running.cancel()
    _ = await running.result
  }

  @Test("its place is taken until it has returned")
  func slots() async throws {
    var options = WebSocketServerOptions()
    options.maxConnections = 1
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0", options: options)
    let seen = Seen()
    let running = Task {
      try await server.run { ws in
        seen.add("begin")
        // It takes no notice of the cancellation.
        await withCheckedContinuation { continuation in
          _ = ws.loop.perform { _ = ws.loop.schedule(after: .seconds(1)) { continuation.resume() } }
        }
        seen.add("end")
      }
    }
    let first = try await WebSocket.connect(server.url)
    #expect(try await seen.wait(for: "begin", atMost: .seconds(10)))
    try await first.close()
    await #expect(throws: WebSocketConnectError.self) { try await WebSocket.connect(server.url) }
    #expect(try await seen.wait(for: "end", atMost: .seconds(10)))
    var next: WebSocket?
    for _ in 0..<200 where next == nil {
      next = try? await WebSocket.connect(server.url)
      if next == nil { try await Task.sleep(for: .milliseconds(5)) }
    }
    #expect(next != nil)
    try await next?.close()
    running.cancel()
    _ = await running.result
  }

  @Test("a shutdown does not wait for handlers whose connections are over", arguments: Handler.allCases)
  func shutdown(handler: Handler) async throws {
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    let seen = Seen()
    let running = Task {
      try await server.run { ws in
        if handler == .hasReadOne { _ = try await ws.read() }
        seen.add("waits")
        try await Task.sleep(for: .seconds(60))
      }
    }
    let client = try await WebSocket.connect(server.url)
    if handler == .hasReadOne { try await client.send("subscribe") }
    #expect(try await seen.wait(for: "waits", atMost: .seconds(10)))
    let start = ContinuousClock.now
    running.cancel()
    #expect(try await client.read() == nil)
    _ = await running.result
    #expect(ContinuousClock.now - start < .seconds(6))
  }

  @Test("a handler that fails is told in the log with its peer and its path, and no query")
  func log() async throws {
    let seen = Seen()
    let logger = Logger(label: "test") { _ in Recording(seen: seen) }
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    let running = Task { try await server.run(logger: logger) { _ in throw TestFailure() } }
    let client = try await WebSocket.connect(server.url + "room/7?token=secret")
    await #expect(throws: WebSocketError.self) { try await client.read() }
    #expect(client.closeStatus?.code == .internalError)
    running.cancel()
    _ = await running.result
    #expect(seen.all == ["error handler failed error=TestFailure() path=/room/7 peer=127.0.0.1"])
  }

  private struct Recording: LogHandler {
    let seen: Seen
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
      let fields = (event.metadata ?? [:]).map { "\($0.key)=\($0.value)" }.sorted()
      seen.add(([event.level.rawValue, "\(event.message)"] + fields).joined(separator: " "))
    }
  }
}
