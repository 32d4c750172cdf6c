import Sluice
import SluiceTopics
import SluiceTopicsConnections

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The room and the ticks of the demo on topics, which all demos on one engine share.
final class SharedDemo: Sendable {
  private let room: Topic
  private let ticks: Topic
  /// Who is at this server.
  private let here = WebSocketBroadcast()

  /// How much is kept: of the room, and of the ticks.
  private static let (roomLimits, tickLimits) = (LogLimits(count: 1000), LogLimits(count: 3600))

  init(_ topics: Topics) throws {
    room = try topics.topic("demo.room", limits: Self.roomLimits)
    ticks = try topics.topic("demo.ticks", limits: Self.tickLimits)
  }

  /// What each says is appended; what is appended all get, on every server, with its position.
  func join(_ ws: WebSocket) async throws {
    try await here.serve(ws) {
      try await tellCount()
      let reader = try await room.messages(from: ws.resumePosition ?? .last(20), onLoss: .resume(from: .earliest))
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await reader.map { Message($0.json) }.pipe(ws) }
        group.addTask {
          for try await message in ws where message.isText { try await self.room.append(message.text) }
        }
        // The first that ends, at the connection's end, ends the other.
        defer { group.cancelAll() }
        do { try await group.next() } catch StreamError.closed {
          // The client has left.
        }
      }
    }
    try await tellCount()
  }

  private func tellCount() async throws {
    try await here.write(Message("{\"online\":\(here.count)}"))
  }

  func sendTicks(to events: EventStreamConnection) async throws {
    let reader = try await ticks.messages(from: events.resumePosition ?? .now, onLoss: .resume(from: .earliest))
    do { try await reader.pipe(events) } catch StreamError.closed {
      // The client has left.
    }
  }

  /// Appends each second. Every server does, under one name and with the second as the number: so it is stored once.
  /// - Parameter server: Whose tick it is.
  func tick(from server: String) async throws {
    while true {
      let now = WallClock.now.components
      do {
        let tick = TopicContent("{\"second\":\(now.seconds),\"server\":\"\(server)\"}", event: "tick")
        try await ticks.append(tick, as: "demo", number: UInt64(clamping: now.seconds))
      } catch TopicError.unavailable {
        // Whoever reaches the engine does it; this second may have no tick.
      }
      let passed = Duration.nanoseconds(WallClock.now.components.attoseconds / 1_000_000_000)
      try await Task.sleep(for: .seconds(1) - passed)
    }
  }

  /// The kill switch: this server is gone at once, as after a crash.
  func control(_ ws: WebSocket) async throws {
    for try await message in ws where message.text == "kill" { kill(getpid(), SIGKILL) }
  }
}
