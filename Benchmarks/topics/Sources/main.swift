// What Benchmarks/topics/run measures, on the engine at PLACE ("memory", redis:, redis+unix:, nats:, or the path of a file). Messages have 100 bytes.
//
//   topics-benchmark PLACE appends WRITERS SECONDS       figures
//   topics-benchmark PLACE serve KIND                    serves until its input ends; "RATE SECONDS" on a line has so much sent; see `serve`
//   topics-benchmark PLACE catchup READERS MESSAGES      figures
//   topics-benchmark PLACE topics COUNT                  figures
import Sluice
import SluiceTopics
import SluiceTopicsConnections
import SluiceTopicsNATS
import SluiceTopicsRedis
import SluiceTopicsSQLite
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

let arguments = CommandLine.arguments
let clock = ContinuousClock()

/// How often the engine's log was read, and how much memory there was of this process at the most.
final class Counts: TopicObserver {
  let reads = Atomic(0)
  let mostMemory = Atomic(0)
  func didReadLog(topic: String, count: Int) { reads.add(1, ordering: .relaxed) }
}
let counts = Counts()

@Sendable func connect() async throws -> Topics {
  var options = TopicsOptions()
  options.observer = counts
  let place = arguments[1]
  if place == "memory" { return .memory(options: options) }
  if place.hasPrefix("redis") { return try await .redis(place, options: options) }
  if place.hasPrefix("nats") { return try await .nats(place, options: options) }
  return try await .sqlite(place, options: options)
}

func seconds(_ time: Duration) -> Double {
  let (seconds, attoseconds) = time.components
  return Double(seconds) + Double(attoseconds) / 1e18
}

/// This process' processor time, in seconds.
func processorTime() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// Bytes of this process that are resident.
func resident() -> Int {
  guard let file = fopen("/proc/self/statm", "r") else { return 0 }
  defer { fclose(file) }
  var line = [CChar](repeating: 0, count: 128)
  guard fgets(&line, 128, file) != nil else { return 0 }
  let fields = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self).split(
    separator: " ")
  return (Int(fields[1]) ?? 0) * sysconf(Int32(_SC_PAGESIZE))
}

/// 100 bytes that begin with the time, in nanoseconds of the clock that clients have too.
@Sendable func text() -> String {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  let now = "\(time.tv_sec * 1_000_000_000 + time.tv_nsec)"
  return "@" + String(repeating: "0", count: 19 - now.utf8.count) + now + String(repeating: "x", count: 80)
}

@Sendable func say(_ figures: String) {
  print(figures)
  fflush(nil)
}

/// Writers with a window each, for some seconds.
@Sendable func appends(_ writers: Int, _ time: Double) async throws {
  let topics = try await connect()
  let topic = try topics.topic("bench.appends.\(writers)")
  try await topic.append("begin")
  let message = TopicContent(text())
  let (start, processor) = (clock.now, processorTime())
  let end = start + .seconds(time)
  let stored = try await withThrowingTaskGroup(of: Int.self) { group in
    for _ in 0..<writers {
      group.addTask {
        let sink = topic.writer()
        var count = 0
        while clock.now < end {
          for _ in 0..<64 { try await sink.write(message) }
          count += 64
        }
        try await sink.close()
        return count
      }
    }
    return try await group.reduce(0, +)
  }
  let elapsed = seconds(clock.now - start)
  say("\(Double(stored) / elapsed) \((processorTime() - processor) / Double(stored) * 1e6)")
  await topics.close()
}

/// Serves at a port that is printed: `topic` or `broadcast` to WebSockets, `topic-events` or `broadcast-events` to event streams. For each line of input it sends
/// RATE messages a second for some SECONDS, and prints their number when they are sent.
@Sendable func serve(_ kind: String) async throws {
  let topics = try await connect()
  let topic = try topics.topic("bench.\(kind)")
  try await topic.append("begin")
  let room = WebSocketBroadcast(whenSlow: .wait)
  let feed = EventBroadcast(whenSlow: .wait)
  let serving: Task<Void, any Error>
  let port: Int
  if kind.hasSuffix("events") {
    var options = HTTPServerOptions()
    options.listen.maxConnections = 20_000
    let server = try await EventSourceServer.listen("http://127.0.0.1:0", server: options)
    port = server.port
    serving = Task(executorPreference: UVLoop.shared) {
      try await server.run { events in
        if kind == "topic-events" {
          try await topic.messages(from: .now).pipe(events)
        } else {
          try await feed.serve(events)
        }
      }
    }
  } else {
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    port = server.port
    serving = Task(executorPreference: UVLoop.shared) {
      try await server.run { ws in
        if kind == "topic" {
          try await topic.messages(from: .now).pipe(ws)
        } else {
          try await room.serve(ws) { for try await _ in ws {} }
        }
      }
    }
  }
  say("\(port)")
  let sink = topic.writer()
  for try await line in StandardStream.input().lines {
    let words = line.split(separator: " ").compactMap { Double($0) }
    let (start, total) = (clock.now, Int(words[0] * words[1]))
    var sent = 0
    while sent < total {
      let due = min(Int(seconds(clock.now - start) * words[0]) + 1, total)
      while sent < due {
        switch kind {
        case "broadcast": try await room.send(text())
        case "broadcast-events": try await feed.write(ServerSentEvent(text()))
        default: try await sink.write(TopicContent(text()))
        }
        sent += 1
      }
      try await Task.sleep(for: .milliseconds(1))
    }
    say("\(sent)")
  }
  serving.cancel()
  await topics.close()
}

/// Readers that come back at once, each for all that there is.
@Sendable func catchup(_ readers: Int, _ messages: Int) async throws {
  let before = try await connect()
  let sink = try before.topic("bench.catchup").writer()
  for _ in 0..<messages { try await sink.write(TopicContent(text())) }
  try await sink.close()
  // Another process has stored it, where that can be.
  let topics = arguments[1] == "memory" ? before : try await connect()
  let topic = try topics.topic("bench.catchup")
  let (start, processor, memory) = (clock.now, processorTime(), resident())
  try await withThrowingDiscardingTaskGroup { group in
    for _ in 0..<readers {
      group.addTask {
        let reader = try await topic.messages(from: .earliest)
        for _ in 0..<messages { _ = try await reader.read() }
        counts.mostMemory.max(resident(), ordering: .relaxed)
        reader.cancel(nil)
      }
    }
  }
  let (elapsed, used) = (seconds(clock.now - start), processorTime() - processor)
  say(
    "\(elapsed) \(used / Double(readers * messages) * 1e6) \(counts.reads.load(ordering: .relaxed)) \(counts.mostMemory.load(ordering: .relaxed) - memory)"
  )
  if arguments[1] != "memory" { await before.close() }
  await topics.close()
}

/// Topics with a reader each, some messages to each of them.
@Sendable func topics(_ count: Int) async throws {
  let topics = try await connect()
  let rounds = max(10_000 / count, 1)
  let empty = resident()
  let opening = clock.now
  var readers: [TopicReader] = []
  for number in 0..<count { readers.append(try await topics.topic("bench.t.\(number)").messages(from: .now)) }
  let opened = seconds(clock.now - opening)
  let memory = resident() - empty
  let (start, processor) = (clock.now, processorTime())
  try await withThrowingDiscardingTaskGroup { group in
    for reader in readers { group.addTask { for _ in 0..<rounds { _ = try await reader.read() } } }
    for lane in 0..<16 {
      group.addTask {
        for _ in 0..<rounds {
          for number in stride(from: lane, to: count, by: 16) {
            try await topics.topic("bench.t.\(number)").append(TopicContent(text()))
          }
        }
      }
    }
  }
  let all = Double(count * rounds)
  say(
    "\(all / seconds(clock.now - start)) \((processorTime() - processor) / all * 1e6) \(opened / Double(count) * 1e3) \(Double(memory) / Double(count))"
  )
  await topics.close()
}

try UVLoop.runShared {
  let numbers = arguments.dropFirst(3).map { Double($0) ?? 0 }
  switch arguments[2] {
  case "appends": try await appends(Int(numbers[0]), numbers[1])
  case "serve": try await serve(arguments[3])
  case "catchup": try await catchup(Int(numbers[0]), Int(numbers[1]))
  default: try await topics(Int(numbers[0]))
  }
}
