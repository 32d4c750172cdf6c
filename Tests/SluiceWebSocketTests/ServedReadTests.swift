import SluiceHTTP
import SluiceServer
import SluiceStreams
import SluiceTestSupport
import SluiceWebSocketProtocol
import Testing

@testable import SluiceWebSocket

/// Reading in the task that a server runs for a connection, which has no cancellation handler of its own, and in others.
@Suite("reading in a server's handler", .timeLimit(.minutes(1)))
struct ServedReadTests {
  /// The two ways to wait for a message.
  enum Gear: CaseIterable {
    case read, iterate

    func next(_ ws: WebSocket) async throws -> Message? {
      switch self {
      case .read: return try await ws.read()
      case .iterate:
        for try await message in ws { return message }
        return nil
      }
    }
  }

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

  @Test("messages that are kept stay as they are while others come", arguments: [1, 16, 64, 65, 200])
  func keptMessages(size: Int) async throws {
    let texts = (0..<50).map { String(repeating: Character(UnicodeScalar(UInt8(48 + $0))), count: size) }
    try await serve { ws in
      var kept: [Message] = []
      var count = 0
      for try await message in ws {
        try await ws.send(message)
        // Every third is let go of.
        count += 1
        if count % 3 != 0 { kept.append(message) }
        if count == texts.count { break }
      }
      let expected = texts.enumerated().filter { $0.offset % 3 != 2 }.map(\.element)
      try await ws.send("\(kept.map(\.text) == expected)")
    } client: { socket in
      for text in texts {
        try await socket.send(text)
        #expect(try await socket.read()?.text == text)
      }
      #expect(try await socket.read()?.text == "true")
    }
  }

  @Test("a task that was cancelled takes what is ready, and then does not wait", arguments: Gear.allCases)
  func cancelledBefore(_ gear: Gear) async throws {
    try await serve { ws in
      try await ws.send("begin")
      // Ready for the next read.
      while try await ws.loop.run({ ws.incoming.ahead.isEmpty }) { try await Task.sleep(for: .milliseconds(5)) }
      unsafe withUnsafeCurrentTask { unsafe $0?.cancel() }
      let message = try await gear.next(ws)
      let isCancelled = await Self.isCancelled { _ = try await gear.next(ws) }
      try await ws.send("\(message?.text ?? "") \(isCancelled)")
    } client: { socket in
      #expect(try await socket.read()?.text == "begin")
      try await socket.send("ready")
      #expect(try await socket.read()?.text == "ready true")
    }
  }

  @Test("a wait ends when its task is cancelled, by whomever", arguments: Gear.allCases, Cancelling.allCases)
  func cancelledMeanwhile(_ gear: Gear, _ cancelling: Cancelling) async throws {
    try await serve { ws in
      let error = await cancelling.cancel { _ = try await gear.next(ws) }
      try await ws.send("\(error is CancellationError)")
      // What is there can be read on; a handler whose own task was cancelled waits for nothing more.
      while try await ws.loop.run({ ws.incoming.ahead.isEmpty }) { await Task.yield() }
      try await ws.send(try await gear.next(ws)?.text ?? "nothing")
    } client: { socket in
      #expect(try await socket.read()?.text == "true")
      try await socket.send("more")
      #expect(try await socket.read()?.text == "more")
    }
  }

  @Test("a handler's pipe ends when its task is cancelled, by whomever", arguments: Cancelling.allCases)
  func cancelledPipe(_ cancelling: Cancelling) async throws {
    try await serve { ws in
      let error = await cancelling.cancel(after: .milliseconds(300)) {
        try await ws.pipe(ws, options: PipeOptions(preventAbort: true, preventCancel: true))
      }
      try await ws.send("\(error is CancellationError)")
    } client: { socket in
      try await socket.send("echo")
      #expect(try await socket.read()?.text == "echo")
      #expect(try await socket.read()?.text == "true")
    }
  }

  @Test("the server's own cancellation of a handler ends its wait too", arguments: Gear.allCases)
  func cancelledByServer(_ gear: Gear) async throws {
    try await serve { ws in
      ws.loop.perform { _ = ws.loop.schedule(after: .milliseconds(50)) { ws.servingTask?.cancel() } }
      let isCancelled = await Self.isCancelled { _ = try await gear.next(ws) }
      try await ws.send("\(isCancelled)")
    } client: { socket in
      let answer = try await socket.read()
      let end = try await socket.read()
      let code = socket.closeStatus?.code
      #expect(answer?.text == "true")
      #expect(end == nil && code == .goingAway)
    }
  }

  @Test("a child task of the handler, and any other task, is cancelled by itself", arguments: Gear.allCases)
  func otherTasks(_ gear: Gear) async throws {
    try await serve { ws in
      var isCancelled: [Bool] = []
      await withTaskGroup(of: Bool.self) { group in
        group.addTask { await Self.isCancelled { _ = try await gear.next(ws) } }
        try? await Task.sleep(for: .milliseconds(50))
        group.cancelAll()
        for await result in group { isCancelled.append(result) }
      }
      let other = Task { await Self.isCancelled { _ = try await gear.next(ws) } }
      try await Task.sleep(for: .milliseconds(50))
      // What ends the wait of the handler's own task does not end this one's.
      try await ws.loop.run { ws.endServedWait() }
      try await Task.sleep(for: .milliseconds(50))
      other.cancel()
      isCancelled.append(await other.value)
      try await ws.send("\(isCancelled)")
      try await ws.send(try await gear.next(ws)?.text ?? "nothing")
    } client: { socket in
      #expect(try await socket.read()?.text == "[true, true]")
      try await socket.send("more")
      #expect(try await socket.read()?.text == "more")
    }
  }

  /// Carries an iterator from one task to another.
  private final class Carried: @unchecked Sendable {  // used by one task after the other
    private var iterator: ReadableStreamIterator<Message>
    init(_ ws: WebSocket) { iterator = ws.makeAsyncIterator() }
    func next() async throws -> Message? { try await iterator.next(isolation: nil) }
  }

  @Test(
    "an iterator that has waited in the handler waits in another task, which is cancelled by itself, and in the handler again"
  )
  func iteratorHandedOn() async throws {
    try await serve { ws in
      let carried = Carried(ws)
      try await ws.send(try await carried.next()?.text ?? "nothing")
      for isOnLoop in [true, false] {
        let other =
          isOnLoop
          ? Task(executorPreference: ws.loop) { try await carried.next() } : Task { try await carried.next() }
        try await Task.sleep(for: .milliseconds(50))
        // What ends the wait of the handler's own task does not end this one's.
        try await ws.loop.run { ws.endServedWait() }
        try await Task.sleep(for: .milliseconds(20))
        #expect(try await ws.loop.run { ws.hasReader })
        other.cancel()
        await #expect(throws: CancellationError.self) { try await other.value }
      }
      try await ws.send("ready")
      try await ws.send(try await carried.next()?.text ?? "nothing")
    } client: { socket in
      try await socket.send("one")
      #expect(try await socket.read()?.text == "one")
      #expect(try await socket.read()?.text == "ready")
      try await socket.send("two")
      #expect(try await socket.read()?.text == "two")
    }
  }

  @Test("a handler waits for message after message, and for the end", arguments: Gear.allCases)
  func repeatedly(_ gear: Gear) async throws {
    try await serve { ws in
      while let message = try await gear.next(ws) { try await ws.send(message) }
    } client: { socket in
      for number in 0..<200 {
        try await socket.send("\(number)")
        #expect(try await socket.read()?.text == "\(number)")
      }
    }
  }

  @Test("a second reader is refused, and the handler's wait goes on", arguments: Gear.allCases)
  func refused(_ gear: Gear) async throws {
    try await serve { ws in
      let other = Task {
        while try await ws.loop.run({ !ws.hasReader }) { try await Task.sleep(for: .milliseconds(5)) }
        await #expect(throws: StreamError.concurrentRead) { try await gear.next(ws) }
        try await ws.send("refused")
      }
      let message = try await gear.next(ws)
      try await other.value
      try await ws.send(message?.text ?? "nothing")
    } client: { socket in
      #expect(try await socket.read()?.text == "refused")
      try await socket.send("one")
      #expect(try await socket.read()?.text == "one")
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
    while try await ws.loop.run({ ws.serving.isRunning }) { try await Task.sleep(for: .milliseconds(5)) }
  }
}
