import SluiceStreams
import SluiceTopics
import Synchronization
import Testing

/// An engine that does what a test says: the memory's behind a gate.
private final class GatedEngine: TopicEngine {
  enum Gate: Sendable {
    case open
    /// Nothing is answered.
    case shut
    /// Stored, and then the answer is lost.
    case losesAnswers(Int)
    case away
  }
  let memory = MemoryTopicEngine()
  let gate = Mutex(Gate.open)
  let attempts = Mutex(0)

  func state(of topic: String) async throws -> LogState { try await memory.state(of: topic) }
  func read(_ topic: String, after offset: UInt64, maxCount: Int, maxBytes: Int) async throws -> LogSlice {
    try await memory.read(topic, after: offset, maxCount: maxCount, maxBytes: maxBytes)
  }
  func append(_ batch: AppendBatch, to topic: String, limits: LogLimits) async throws -> Position {
    attempts.withLock { $0 += 1 }
    while true {
      switch gate.withLock({ $0 }) {
      case .open: return try await memory.append(batch, to: topic, limits: limits)
      case .shut: try await Task.sleep(for: .milliseconds(1))
      case .away: throw TopicError.unavailable("away")
      case .losesAnswers(let count):
        gate.withLock { $0 = count > 1 ? .losesAnswers(count - 1) : .open }
        _ = try await memory.append(batch, to: topic, limits: limits)
        throw TopicError.unavailable("cut")
      }
    }
  }
  func follow(_ topic: String, after position: Position, _ deliver: @escaping @Sendable (Delivery) -> Void)
    -> any Following
  {
    memory.follow(topic, after: position, deliver)
  }
  func close() async { await memory.close() }
}

@Suite("Appending", .timeLimit(.minutes(1)))
struct AppendTests {
  @Test("an engine that does not answer holds its writers at the window")
  func window() async throws {
    let engine = GatedEngine()
    engine.gate.withLock { $0 = .shut }
    var options = TopicsOptions()
    options.writeWindow = 10
    let topics = Topics(engine: engine, options: options)
    let sink = try topics.topic("window").writer()
    let written = Mutex(0)
    let writing = Task {
      for number in 0..<100 {
        try await sink.write("\(number)")
        written.withLock { $0 += 1 }
      }
      try await sink.close()
    }
    try await Task.sleep(for: .milliseconds(50))
    #expect(written.withLock { $0 } == 10)
    engine.gate.withLock { $0 = .open }
    try await writing.value
    let texts = try await topics.topic("window").messages(from: .earliest).texts(count: 100)
    #expect(texts == (0..<100).map { "\($0)" })
    #expect(sink.position?.offset == 100)
  }

  @Test("appends of all tasks are bounded, by count and by bytes", arguments: [(8, 1 << 20), (1000, 800)])
  func bounded(maxAppends: Int, maxBytes: Int) async throws {
    let engine = GatedEngine()
    engine.gate.withLock { $0 = .shut }
    var options = TopicsOptions()
    options.maxPendingAppends = maxAppends
    options.maxPendingBytes = maxBytes
    let observer = RecordingObserver()
    options.observer = observer
    let topics = Topics(engine: engine, options: options)
    let topic = try topics.topic("bounded")
    let text = String(repeating: "x", count: 100)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<40 { group.addTask { try await topic.append(text) } }
      try await Task.sleep(for: .milliseconds(50))
      engine.gate.withLock { $0 = .open }
      try await group.waitForAll()
    }
    #expect(observer.count("appended") == 40)
    #expect(try await topic.position().offset == 40)
    // No batch was larger than what may be pending.
    #expect(engine.attempts.withLock { $0 } >= 5)
  }

  @Test("an answer that is lost is asked for again, and stored once")
  func lostAnswer() async throws {
    let engine = GatedEngine()
    let topics = Topics(engine: engine, options: TopicsOptions())
    let topic = try topics.topic("cut")
    engine.gate.withLock { $0 = .losesAnswers(3) }
    let position = try await topic.append("once")
    #expect(engine.attempts.withLock { $0 } == 4)
    #expect(try await topic.position() == position)
    #expect(position.offset == 1)
  }

  @Test("an engine that is away beyond the time limit: what may be stored is said, and nothing behind it is")
  func away() async throws {
    let engine = GatedEngine()
    var options = TopicsOptions()
    options.appendTimeout = .milliseconds(200)
    let topics = Topics(engine: engine, options: options)
    let topic = try topics.topic("away")
    try await topic.append("before")
    engine.gate.withLock { $0 = .away }
    do {
      try await topic.append("lost")
      Issue.record("nobody could have stored this")
    } catch TopicError.appendFailed(let mayBeStored, _) {
      #expect(mayBeStored)
    }
    let sink = topic.writer()
    for number in 0..<5 { try await sink.write("\(number)") }
    await #expect(throws: TopicError.self) { try await sink.close() }
    engine.gate.withLock { $0 = .open }
    await #expect(throws: TopicError.self) { try await sink.write("behind") }
    try await topic.append("after")
    #expect(try await topic.messages(from: .earliest).texts(count: 2) == ["before", "after"])
  }

  @Test("a message beyond the limit is refused before anything is sent")
  func tooLarge() async throws {
    var options = TopicsOptions()
    options.maxMessageBytes = 10
    let topics = Topics.memory(options: options)
    let topic = try topics.topic("large")
    await #expect(throws: TopicError.messageTooLarge(limit: 10, actual: 11)) { try await topic.append("12345678901") }
    let sink = topic.writer()
    await #expect(throws: TopicError.messageTooLarge(limit: 10, actual: 11)) { try await sink.write("12345678901") }
    try await sink.write("1234567890")
    try await sink.close()
    #expect(try await topic.position().offset == 1)
  }

  @Test("a cancelled writer ends, and is not left in the line")
  func cancelled() async throws {
    let engine = GatedEngine()
    engine.gate.withLock { $0 = .shut }
    var options = TopicsOptions()
    options.maxPendingAppends = 1
    let topics = Topics(engine: engine, options: options)
    let topic = try topics.topic("cancelled")
    let first = Task { try await topic.append("first") }
    try await Task.sleep(for: .milliseconds(20))
    let second = Task { try await topic.append("second") }
    try await Task.sleep(for: .milliseconds(20))
    second.cancel()
    await #expect(throws: CancellationError.self) { try await second.value }
    engine.gate.withLock { $0 = .open }
    _ = try await first.value
    try await topic.append("third")
    #expect(try await topic.messages(from: .earliest).texts(count: 2) == ["first", "third"])
  }

  @Test("all readers of a process share one subscription, whoever keeps the topic's value")
  func oneSubscription() async throws {
    let engine = MemoryTopicEngine()
    let topics = Topics(engine: engine, options: TopicsOptions())
    var readers: [TopicReader] = []
    for _ in 0..<10 { readers.append(try await topics.topic("shared").messages(from: .now)) }
    #expect(engine.followerCount == 1)
    try await topics.topic("shared").append("x")
    for reader in readers { #expect(try await reader.read()?.text == "x") }
  }

  @Test("the subscription ends when its last reader has gone, and nothing is left")
  func nothingLeft() async throws {
    let engine = MemoryTopicEngine()
    var options = TopicsOptions()
    options.idleTimeout = .milliseconds(20)
    let topics = Topics(engine: engine, options: options)
    do {
      let topic = try topics.topic("left")
      var readers: [TopicReader] = []
      for _ in 0..<10 { readers.append(try await topic.messages(from: .now)) }
      #expect(engine.followerCount == 1)
      try await topic.append("x")
      for reader in readers { #expect(try await reader.read()?.text == "x") }
      readers[0].cancel()
      readers = []
    }
    for _ in 0..<200 where engine.followerCount > 0 { try await Task.sleep(for: .milliseconds(5)) }
    #expect(engine.followerCount == 0)
    // And it begins again.
    let topic = try topics.topic("left")
    let reader = try await topic.messages(from: .last(1))
    #expect(try await reader.read()?.text == "x")
    #expect(engine.followerCount == 1)
  }
}
