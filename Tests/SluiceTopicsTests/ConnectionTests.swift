import Sluice
import SluiceTopics
import SluiceTopicsConnections
import Synchronization
import Testing

@Suite("Topics into connections, and back", .timeLimit(.minutes(1)))
struct ConnectionTests {
  /// A server with a topic's messages at /ws and /events, and a chat at /chat.
  private func serving(_ topics: Topics, _ body: (String) async throws -> Void) async throws {
    let server = try await HTTPServer.listen("http://127.0.0.1:0")
    let running = Task {
      try await server.run(routes: [
        .webSocket("/ws") { ws in
          try await topics.topic("feed").messages(from: ws.resumePosition ?? .earliest).pipe(ws)
        },
        .events("/events") { events in
          try await topics.topic("feed").messages(from: events.resumePosition ?? .earliest).pipe(events)
        },
        .webSocket("/chat") { ws in try await bridge(ws, topics.topic("chat").joined(from: .earliest)) },
      ])
    }
    do { try await body("127.0.0.1:\(server.port)") } catch {
      running.cancel()
      _ = try? await running.value
      throw error
    }
    running.cancel()
    _ = try? await running.value
  }

  @Test("each gets the messages in its own form, with positions where there is a place for them")
  func forms() async throws {
    let topics = Topics.memory()
    let feed = try topics.topic("feed")
    let first = try await feed.append("one\ntwo", event: "lines")
    let second = try await feed.append([0xFF, 0x00])
    let third = try await feed.append(TopicContent(kind: .text, bytes: [0xC3]))
    try await serving(topics) { address in
      let ws = try await WebSocket.connect("ws://\(address)/ws")
      let messages = [try await ws.read(), try await ws.read(), try await ws.read()]
      // What is called text and is none is binary.
      #expect(messages == [Message("one\ntwo"), .binary([0xFF, 0x00]), .binary([0xC3])])
      try await ws.close(.normal)
      let events = try await EventSource.connect("http://\(address)/events")
      #expect(try await events.read() == ServerSentEvent("one\ntwo", event: "lines", id: "\(first)"))
      #expect(try await events.read() == ServerSentEvent("/wA=", id: "\(second)"))
      #expect(try await events.read() == ServerSentEvent("\u{FFFD}", id: "\(third)"))
      events.cancel()
      // And back, from where it was.
      for query in ["lastEventId=\(second)", "a=b&lastEventId=\(second)&c"] {
        let again = try await WebSocket.connect("ws://\(address)/ws?\(query)")
        #expect(try await again.read() == .binary([0xC3]))
        try await again.close(.normal)
      }
      let garbage = try await WebSocket.connect("ws://\(address)/ws?lastEventId=%0d%0a")
      #expect(try await garbage.read()?.text == "one\ntwo")
      try await garbage.close(.normal)
    }
  }

  @Test("a client that does not read holds nobody, and misses nothing")
  func slowClient() async throws {
    var options = TopicsOptions()
    options.ringBytes = 64 << 10
    let topics = Topics.memory(options: options)
    let (count, padding) = (4000, String(repeating: "x", count: 4000))
    try await serving(topics) { address in
      let slow = try await WebSocket.connect("ws://\(address)/ws")
      let quick = try await WebSocket.connect("ws://\(address)/ws")
      let feed = try topics.topic("feed")
      async let written: Void = {
        let sink = feed.writer()
        for number in 0..<count { try await sink.write(TopicContent("\(number) " + padding)) }
        try await sink.close()
      }()
      for number in 0..<count { try #require(try await quick.read()?.text.hasPrefix("\(number) ") == true) }
      try await written
      for number in 0..<count { try #require(try await slow.read()?.text.hasPrefix("\(number) ") == true) }
      try await slow.close(.normal)
      try await quick.close(.normal)
    }
  }

  @Test("what a client said before it left is stored; a loss ends its connection with 1011")
  func ends() async throws {
    var options = TopicsOptions()
    options.limits = LogLimits(count: 5)
    let topics = Topics.memory(options: options)
    let first = try await topics.topic("feed").append("first")
    try await serving(topics) { address in
      let ws = try await WebSocket.connect("ws://\(address)/chat")
      for number in 0..<3 { try await ws.send("\(number)") }
      try await ws.close(.normal)
      let reader = try await topics.topic("chat").messages(from: .earliest)
      #expect(try await reader.texts(count: 3) == ["0", "1", "2"])
      for number in 0..<20 { try await topics.topic("feed").append("\(number)") }
      let late = try await WebSocket.connect("ws://\(address)/ws?lastEventId=\(first)")
      await #expect(throws: (any Error).self) { try await late.read() }
      #expect(late.closeStatus?.code.rawValue == 1011)
    }
  }

  @Test(
    "connections that come and go, beside those that do not read: each gets a run without a gap and without repetition")
  func comingAndGoing() async throws {
    var options = TopicsOptions()
    // Small enough that who is held up reads the log.
    options.ringBytes = 32 << 10
    let topics = Topics.memory(options: options)
    let feed = try topics.topic("feed")
    let epoch = try await feed.position().epoch
    let (count, padding) = (1000, String(repeating: "x", count: 200))
    try await serving(topics) { address in
      let stalled = try await WebSocket.connect("ws://\(address)/ws")
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in 0..<16 {
          group.addTask {
            // From the beginning, and in parts: each goes on where the last one was.
            var next = 0
            while next < count {
              let from = next == 0 ? "" : "?lastEventId=\(try Self.position(of: next - 1, in: epoch))"
              if number % 2 == 0 {
                let ws = try await WebSocket.connect("ws://\(address)/ws\(from)")
                for _ in 0..<(60 + 37 * number) where next < count {
                  try #require(try await ws.read()?.text.hasPrefix("\(next) ") == true)
                  next += 1
                }
                if number % 4 == 0 { ws.cancel(nil) } else { ws.abort(CancellationError()) }
              } else {
                let events = try await EventSource.connect("http://\(address)/events\(from)")
                for _ in 0..<(60 + 37 * number) where next < count {
                  try #require(try await events.read()?.data.hasPrefix("\(next) ") == true)
                  next += 1
                }
                events.cancel()
              }
            }
          }
        }
        group.addTask {
          let sink = feed.writer()
          for number in 0..<count {
            try await sink.write(TopicContent("\(number) " + padding))
            if number % 50 == 0 { try await Task.sleep(for: .milliseconds(1)) }
          }
          try await sink.close()
        }
        try await group.waitForAll()
      }
      for number in 0..<count { try #require(try await stalled.read()?.text.hasPrefix("\(number) ") == true) }
      try await stalled.close(.normal)
    }
  }

  /// Of a message of an engine in memory, whose numbers begin with one.
  private static func position(of number: Int, in epoch: String) throws -> Position {
    try #require(Position("\(epoch).\(number + 1)"))
  }

  @Test("a client that reads nothing holds no more than what it has not taken of one turn")
  func stalledClient() async throws {
    let topics = Topics.memory()
    let feed = try topics.topic("feed")
    let served = Mutex<[WebSocket]>([])
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    let running = Task {
      try await server.run { ws in
        served.withLock { $0.append(ws) }
        try await feed.messages(from: .now).pipe(ws)
      }
    }
    defer { running.cancel() }
    let stalled = try await WebSocket.connect("ws://127.0.0.1:\(server.port)")
    while served.withLock({ $0.isEmpty }) { try await Task.sleep(for: .milliseconds(1)) }
    try await Task.sleep(for: .milliseconds(50))
    let ws = served.withLock { $0[0] }
    // More than the system takes on both sides, and much more than the watermark of a connection.
    let (count, padding) = (10_000, String(repeating: "x", count: 1000))
    let sink = feed.writer()
    for number in 0..<count {
      try await sink.write(TopicContent("\(number) " + padding))
      if number % 20 == 0 { await Task.yield() }
    }
    try await sink.close()
    #expect(try await ws.loop.run { ws.queuedByteCount } < 24 << 10)
    for number in 0..<count { try #require(try await stalled.read()?.text.hasPrefix("\(number) ") == true) }
    try await stalled.close(.normal)
  }
}
