// topics-benchmark memory|REDIS-URL: messages of 100 bytes. One line for each figure.
import Sluice
import SluiceTopics
import SluiceTopicsConnections
import SluiceTopicsRedis

let place = CommandLine.arguments.dropFirst().first ?? "memory"
let text = String(repeating: "x", count: 100)

@Sendable func connect() async throws -> Topics {
  place == "memory" ? Topics.memory() : try await Topics.redis(place)
}

@Sendable func report(_ what: String, _ count: Int, _ time: Duration) {
  let (seconds, attoseconds) = time.components
  let elapsed = Double(seconds) + Double(attoseconds) / 1e18
  print("\(place == "memory" ? "memory" : "redis"), \(what): \(Int(Double(count) / elapsed)) per second")
}

/// One writer with a window, and so many tasks that wait for each append.
@Sendable func appends() async throws {
  let clock = ContinuousClock()
  let topics = try await connect()
  let topic = try topics.topic("bench.appends")
  let count = 200_000
  let sink = topic.writer()
  var start = clock.now
  for _ in 0..<count { try await sink.write(TopicContent(text)) }
  try await sink.close()
  report("appends by one writer with a window", count, clock.now - start)
  for tasks in [1, 16, 256] {
    let each = (tasks == 1 ? 20_000 : 100_000) / tasks
    start = clock.now
    try await withThrowingDiscardingTaskGroup { group in
      for _ in 0..<tasks { group.addTask { for _ in 0..<each { try await topic.append(text) } } }
    }
    report("appends by \(tasks) tasks that wait for each", each * tasks, clock.now - start)
  }
  await topics.close()
}

/// Readers of one topic, by `for try await`.
@Sendable func deliveries(readers: Int, count: Int) async throws {
  let clock = ContinuousClock()
  let topics = try await connect()
  let topic = try topics.topic("bench.deliveries.\(readers)")
  var all: [TopicReader] = []
  for _ in 0..<readers { all.append(try await topic.messages(from: .now)) }
  let start = clock.now
  try await withThrowingDiscardingTaskGroup { group in
    for reader in all {
      group.addTask { for _ in 0..<count { _ = try await reader.read() } }
    }
    group.addTask {
      let sink = topic.writer()
      for _ in 0..<count { try await sink.write(TopicContent(text)) }
      try await sink.close()
    }
  }
  report("deliveries to \(readers) readers", readers * count, clock.now - start)
  await topics.close()
}

/// A server of this process, and clients of this process: half of the time is the clients'.
@Sendable func sockets(clients: Int, count: Int, broadcast: Bool) async throws {
  let clock = ContinuousClock()
  let topics = try await connect()
  let topic = try topics.topic("bench.sockets.\(clients)")
  let room = WebSocketBroadcast(whenSlow: .wait)
  let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
  let serving = Task {
    try await server.run { ws in
      if broadcast {
        try await room.serve(ws) { for try await _ in ws {} }
      } else {
        try await topic.messages(from: .now).pipe(ws)
      }
    }
  }
  var all: [WebSocket] = []
  for _ in 0..<clients { all.append(try await WebSocket.connect(server.url)) }
  // Each handler has begun.
  try await Task.sleep(for: .seconds(1))
  let start = clock.now
  try await withThrowingDiscardingTaskGroup { group in
    for ws in all {
      group.addTask { for _ in 0..<count { _ = try await ws.read() } }
    }
    group.addTask {
      let sink = topic.writer()
      for _ in 0..<count {
        if broadcast { try await room.send(text) } else { try await sink.write(TopicContent(text)) }
      }
      try await sink.close()
    }
  }
  report(
    "\(broadcast ? "WebSocketBroadcast alone" : "topic") to \(clients) WebSockets, clients included", clients * count,
    clock.now - start)
  serving.cancel()
  _ = try? await serving.value
  await topics.close()
}

try UVLoop.runShared {
  try await appends()
  for readers in [1, 100, 1000] {
    try await deliveries(readers: readers, count: readers == 1 ? 200_000 : 1_000_000 / readers)
  }
  try await sockets(clients: 1000, count: 500, broadcast: false)
  if place == "memory" { try await sockets(clients: 1000, count: 500, broadcast: true) }
}
