import Sluice
import SluiceStreams
import SluiceTestSupport
import Synchronization
import Testing

@testable import SluiceWebSocket

@Suite("Many senders on one WebSocket", .timeLimit(.minutes(1)))
struct SendTests {
  private static func large(_ number: Int) -> Message { Message("\(number) " + String(repeating: "x", count: 9_000)) }

  /// What a peer reads, as the numbers that messages begin with.
  private static func numbers(_ ws: WebSocket, count: Int) async throws -> [Int] {
    var numbers: [Int] = []
    while numbers.count < count, let message = try await ws.read() {
      numbers.append(Int(message.text.prefix { $0 != " " }) ?? -1)
    }
    return numbers
  }

  @Test("all messages leave to a peer that reads nothing for a while, in the order of the calls")
  func order() async throws {
    try await SimulatedConnection.run { ends, loop in
      let sending = (0..<400).map { number in
        Task(executorPreference: loop) { try await ends.server.send(Self.large(number)) }
      }
      try await loop.sleep(for: .seconds(5))
      #expect(try await Self.numbers(ends.client, count: 400) == Array(0..<400))
      for task in sending { try await task.value }
      #expect(try await loop.run { ends.server.controls.senders == nil })
    }
  }

  @Test("from any thread: an actor's room loses nothing to a client that is slow")
  func room() async throws {
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    defer { server.stop() }
    async let accepted = server.connections.read()
    let client = try await WebSocket.connect(server.url)
    let ws = try #require(try await accepted)
    async let sent: Void = withThrowingDiscardingTaskGroup { group in
      for number in 0..<400 {
        group.addTask { try await ws.send(Message("\(number) " + String(repeating: "x", count: 30_000))) }
      }
    }
    try await Task.sleep(for: .milliseconds(200))
    #expect(Set(try await Self.numbers(client, count: 400)) == Set(0..<400))
    try await sent
    client.abort(StreamError.aborted)
    ws.abort(StreamError.aborted)
  }

  @Test("one that is cancelled while it waits has sent nothing, and the others go on")
  func cancellation() async throws {
    try await SimulatedConnection.run { ends, loop in
      let sending = (0..<60).map { number in
        Task(executorPreference: loop) { try await ends.server.send(Self.large(number)) }
      }
      try await loop.sleep(for: .seconds(5))
      for task in sending[40..<50] { task.cancel() }
      for task in sending[40..<50] { await #expect(throws: CancellationError.self) { try await task.value } }
      #expect(try await Self.numbers(ends.client, count: 50) == Array(0..<40) + Array(50..<60))
      for task in sending[..<40] + sending[50...] { try await task.value }
    }
  }

  @Test("a pipe and senders share the room; a second writer is refused")
  func besideAPipe() async throws {
    try await SimulatedConnection.run { ends, loop in
      let piping = Task(executorPreference: loop) {
        try await SequenceStream((1000..<1100).map(Self.large)).pipe(
          ends.server, options: PipeOptions(preventClose: true))
      }
      try await loop.sleep(for: .seconds(1))
      let sending = (0..<20).map { number in
        Task(executorPreference: loop) { try await ends.server.send(Self.large(number)) }
      }
      try await loop.sleep(for: .seconds(1))
      let all = try await Self.numbers(ends.client, count: 120)
      #expect(all.filter { $0 < 1000 } == Array(0..<20))
      #expect(all.filter { $0 >= 1000 } == Array(1000..<1100))
      // Who came first is not held up by what came later.
      #expect(all.firstIndex(of: 19)! < 60)
      try await piping.value
      for task in sending { try await task.value }
      let first = Task(executorPreference: loop) {
        while !Task.isCancelled { try await ends.server.write(Self.large(0)) }
      }
      try await loop.sleep(for: .seconds(1))
      await #expect(throws: StreamError.concurrentWrite) {
        for _ in 0..<20 { try await ends.server.write(Self.large(1)) }
      }
      first.cancel()
      do { try await first.value } catch is CancellationError {}
    }
  }

  @Test("messages wait behind one that is sent in parts")
  func behindFragments() async throws {
    try await SimulatedConnection.run { ends, loop in
      let parts = ends.server.parts
      try await parts.write(MessagePart(kind: .text, bytes: "5", isFinal: false))
      let sending = (6..<9).map { number in Task(executorPreference: loop) { try await ends.server.send("\(number)") } }
      try await loop.sleep(for: .seconds(1))
      try await parts.write(MessagePart(kind: .text, bytes: "", isFinal: true))
      #expect(try await Self.numbers(ends.client, count: 4) == [5, 6, 7, 8])
      for task in sending { try await task.value }
    }
  }

  @Test("a message may be written with what it is made of, and so may one to a room")
  func interpolation() async throws {
    let (name, count) = ("ann", 2)
    let message: Message = "\(name) has \(count)"
    #expect(message.text == "ann has 2" && message.isText)
    try await SimulatedConnection.run { ends, loop in
      let room = WebSocketBroadcast()
      let serving = Task(executorPreference: loop) {
        try await room.serve(ends.server) { _ = try await ends.server.read() }
      }
      while room.count < 1 { await Task.yield() }
      try await room.send("\(name) has joined")
      try await room.send([1, 2] as Bytes)
      try await room.send(message)
      #expect(try await ends.client.read()?.text == "ann has joined")
      #expect(try await ends.client.read()?.bytes == [1, 2])
      #expect(try await ends.client.read() == message)
      ends.client.abort(StreamError.aborted)
      _ = await serving.result
    }
  }
}
