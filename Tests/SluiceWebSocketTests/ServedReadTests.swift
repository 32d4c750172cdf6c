import SluiceListen
import SluiceStreams
import Testing

@testable import SluiceWebSocket

/// Reading in the task that a server runs for a connection, which has no cancellation handler of its own, and in others.
@Suite("reading in a server's handler", .timeLimit(.minutes(1)))
struct ServedReadTests {
  /// Runs a handler against a client, and gives what the handler's answer came to.
  private func serve(
    _ handler: @escaping @Sendable (WebSocket) async throws -> Void,
    client: (WebSocket) async throws -> Void
  ) async throws {
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    let serving = Task { try await server.run(handler) }
    defer { serving.cancel() }
    let socket = try await WebSocket.connect(server.url)
    try await client(socket)
    try await socket.close()
  }

  private static func isCancelled(_ body: () async throws -> Void) async -> Bool {
    do { try await body() } catch { return error is CancellationError }
    return false
  }

  @Test("a task that was cancelled takes what is ready, and then does not wait")
  func cancelledBefore() async throws {
    try await serve { ws in
      try await ws.send("begin")
      // Ready for the next read.
      while try await ws.loop.run({ ws.ahead.isEmpty }) { try await Task.sleep(for: .milliseconds(5)) }
      withUnsafeCurrentTask { $0?.cancel() }
      let message = try await ws.read()
      let isCancelled = await Self.isCancelled { _ = try await ws.read() }
      try await ws.send("\(message?.text ?? "") \(isCancelled)")
    } client: { socket in
      #expect(try await socket.read()?.text == "begin")
      try await socket.send("ready")
      #expect(try await socket.read()?.text == "ready true")
    }
  }

  @Test("a wait ends when the server says that the task was cancelled, and the connection can be read on")
  func cancelledMeanwhile() async throws {
    try await serve { ws in
      _ = ws.loop.perform { _ = ws.loop.schedule(after: .milliseconds(50)) { ws.servingWasCancelled() } }
      let isCancelled = await Self.isCancelled { _ = try await ws.read() }
      try await ws.send("\(isCancelled)")
      try await ws.send(try await ws.read()?.text ?? "nothing")
    } client: { socket in
      #expect(try await socket.read()?.text == "true")
      try await socket.send("more")
      #expect(try await socket.read()?.text == "more")
    }
  }

  @Test("a child task of the handler, and any other task, is cancelled by itself")
  func otherTasks() async throws {
    try await serve { ws in
      var isCancelled: [Bool] = []
      await withTaskGroup(of: Bool.self) { group in
        group.addTask { await Self.isCancelled { _ = try await ws.read() } }
        try? await Task.sleep(for: .milliseconds(50))
        group.cancelAll()
        for await result in group { isCancelled.append(result) }
      }
      let other = Task { await Self.isCancelled { _ = try await ws.read() } }
      try await Task.sleep(for: .milliseconds(50))
      // What the server says of its own task is not said of this one.
      try await ws.loop.run { ws.servingWasCancelled() }
      try await Task.sleep(for: .milliseconds(50))
      other.cancel()
      isCancelled.append(await other.value)
      try await ws.send("\(isCancelled)")
      try await ws.send(try await ws.read()?.text ?? "nothing")
    } client: { socket in
      #expect(try await socket.read()?.text == "[true, true]")
      try await socket.send("more")
      #expect(try await socket.read()?.text == "more")
    }
  }

  @Test("the server's task is let go of when its handler has returned")
  func taskIsReleased() async throws {
    let (ended, continuation) = AsyncStream<WebSocket>.makeStream()
    try await serve { ws in
      continuation.yield(ws)
      for try await message in ws { try await ws.send(message) }
    } client: { socket in
      try await socket.send("echo")
      #expect(try await socket.read()?.text == "echo")
    }
    var iterator = ended.makeAsyncIterator()
    let ws = try #require(await iterator.next())
    while try await ws.loop.run({ unsafe ws.servingTask != nil }) { try await Task.sleep(for: .milliseconds(5)) }
  }
}
