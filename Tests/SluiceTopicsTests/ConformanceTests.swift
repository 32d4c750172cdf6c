import SluiceStreams
import SluiceTopics
import Synchronization
import Testing

@Suite("The contract of topics, on each engine", .timeLimit(.minutes(2)))
struct ConformanceTests {
  @Test("what is appended is read, in order, with its kind, type and time", arguments: EngineUnderTest.withSlowCluster)
  func order(engine: EngineUnderTest) async throws {
    try await engine.run { here, there, _ in
      let topic = try here.topic("order")
      let reader = try await topic.messages(from: .earliest)
      let distant = try await there.topic("order").messages(from: .earliest)
      let contents: [TopicContent] = [
        "one", TopicContent(kind: .binary, bytes: [0, 0xFF, 13, 10]), TopicContent("", event: "price"),
        TopicContent("zwölf", event: "größe"),
      ]
      var positions: [Position] = []
      for content in contents { positions.append(try await topic.append(content)) }
      for reader in [reader, distant] {
        let messages = try await reader.read(count: contents.count)
        #expect(messages.map(\.content) == contents)
        #expect(messages.map(\.position) == positions)
        #expect(reader.position == positions.last)
        #expect(messages.allSatisfy { abs((WallClock.now - $0.time).components.seconds) < 60 })
      }
      #expect(Set(positions).count == contents.count)
      #expect(try await topic.position() == positions.last)
      for position in positions { #expect(Position(position.description) == position) }
    }
  }

  @Test(
    "readers that come while 10,000 appends run see no gap and no repetition",
    arguments: EngineUnderTest.withSlowCluster)
  func seam(engine: EngineUnderTest) async throws {
    var options = TopicsOptions()
    // Small enough that readers fall out of it, and catch up with the log meanwhile.
    options.ringBytes = 64 << 10
    let (writers, each, readers) = (4, 2500, 12)
    try await engine.run(options) { here, there, _ in
      let topic = try here.topic("seam")
      try await topic.append("before")
      let first = try await topic.position()
      let begun = Counter()
      let written = Counter()
      try await withThrowingTaskGroup(of: Void.self) { group in
        for writer in 0..<writers {
          group.addTask {
            let sink = try (writer % 2 == 0 ? here : there).topic("seam").writer()
            for number in 0..<each { try await sink.write("\(writer) \(number)") }
            try await sink.close()
            written.increment()
          }
        }
        for number in 0..<readers {
          group.addTask {
            try await Task.sleep(for: .milliseconds(number * 20))
            let beginnings: [TopicBeginning] = [.earliest, .last(100), .now, .after(first)]
            let beginning = beginnings[number % 4]
            let reader = try await (number % 2 == 0 ? here : there).topic("seam").messages(from: beginning)
            begun.increment()
            try await Self.check(reader, from: beginning, writers: writers, each: each)
          }
        }
        // All have begun, and all is written.
        while begun.value < readers || written.value < writers {
          try await Task.sleep(for: .milliseconds(5))
        }
        try await topic.append("end")
        try await group.waitForAll()
      }
    }
  }

  /// Reads to the end: each writer's messages follow each other from where the reader begins.
  private static func check(
    _ reader: TopicReader, from beginning: TopicBeginning, writers: Int, each: Int
  ) async throws {
    let isWhole = beginning != .now && beginning != .last(100)
    var next: [Int: Int] = [:]
    var last: Position?
    while let message = try await reader.read(), message.text != "end" {
      if let last { try #require(message.position.offset == last.offset + 1) }
      last = message.position
      if message.text == "before" { continue }
      let parts = message.text.split(separator: " ").compactMap { Int($0) }
      try #require(parts.count == 2)
      if let expected = next[parts[0]] ?? (isWhole ? 0 : nil) { try #require(parts[1] == expected) }
      next[parts[0]] = parts[1] + 1
    }
    #expect(next.values.allSatisfy { $0 == each })
    if isWhole { #expect(next.count == writers) }
  }

  @Test("beginnings: now, earliest, the last few, and behind a position", arguments: EngineUnderTest.withSlowCluster)
  func beginnings(engine: EngineUnderTest) async throws {
    try await engine.run { here, there, _ in
      let topic = try here.topic("beginnings")
      let empty = try await topic.position()
      // Before anything was appended, all of them are the same place.
      let early = try await topic.messages(from: .earliest)
      let lastOfNone = try await topic.messages(from: .last(5))
      let afterEmpty = try await topic.messages(from: .after(empty))
      var positions: [Position] = []
      for number in 0..<10 { positions.append(try await topic.append("\(number)")) }
      let all = (0..<10).map { "\($0)" }
      for reader in [early, lastOfNone, afterEmpty] { #expect(try await reader.texts(count: 10) == all) }
      for topics in [here, there] {
        let topic = try topics.topic("beginnings")
        let now = try await topic.messages(from: .now)
        #expect(try await topic.messages(from: .earliest).texts(count: 10) == all)
        #expect(try await topic.messages(from: .last(3)).texts(count: 3) == ["7", "8", "9"])
        #expect(try await topic.messages(from: .last(100)).texts(count: 10) == all)
        #expect(try await topic.messages(from: .after(positions[4])).texts(count: 5) == Array(all[5...]))
        now.cancel()
      }
      let distant = try there.topic("beginnings")
      let now = try await distant.messages(from: .now)
      let none = try await distant.messages(from: .last(0))
      let end = try await distant.messages(from: .after(positions[9]))
      let next = try await topic.append("next")
      for reader in [now, none, end] { #expect(try await reader.read()?.position == next) }
    }
  }

  @Test(
    "what was trimmed is a loss that is told, and never a part that looks whole",
    arguments: EngineUnderTest.withSlowCluster)
  func loss(engine: EngineUnderTest) async throws {
    var options = TopicsOptions()
    options.limits = LogLimits(count: 10)
    options.ringBytes = 1
    try await engine.run(options) { here, there, _ in
      let topic = try here.topic("loss")
      let first = try await topic.append("first")
      // It reads one, and then nothing for a while.
      let slow = try await topic.messages(from: .earliest)
      #expect(try await slow.read()?.text == "first")
      for number in 0..<100 { try await topic.append("\(number)") }
      let start = try await topic.earliestPosition()
      for topics in [here, there] {
        do {
          _ = try await topics.topic("loss").messages(from: .after(first))
          Issue.record("a position that is lost was taken")
        } catch TopicError.positionLost(let asked, let earliest) {
          #expect(asked == first)
          #expect(earliest == start)
        }
      }
      await #expect(throws: TopicError.positionLost(asked: first, earliest: start)) { try await slow.read() }
      // And again, as with every stream.
      await #expect(throws: TopicError.positionLost(asked: first, earliest: start)) { try await slow.read() }
      let told = Mutex<[TopicLoss]>([])
      let resuming = try await there.topic("loss").messages(
        from: .after(first), onLoss: .resume(from: .earliest) { loss in told.withLock { $0.append(loss) } })
      #expect(told.withLock { $0 } == [TopicLoss(asked: first, earliest: start)])
      #expect(try await resuming.texts(count: 10) == (90..<100).map { "\($0)" })
      #expect(try await topic.messages(from: .earliest).texts(count: 10) == (90..<100).map { "\($0)" })
    }
  }

  @Test("a log that lost its data knows its old positions as void", arguments: EngineUnderTest.withSlowCluster)
  func epochs(engine: EngineUnderTest) async throws {
    try await engine.run { here, there, host in
      let topic = try here.topic("epochs")
      var old: Position?
      for number in 0..<20 { old = try await topic.append("old \(number)") }
      let position = try #require(old)
      // One that has read all, and waits.
      let waiting = try await there.topic("epochs").messages(from: .earliest)
      _ = try await waiting.read(count: 20)
      try await host.wipe("epochs")
      for number in 0..<30 { try await topic.append("new \(number)") }
      do {
        _ = try await there.topic("epochs").messages(from: .after(position))
        Issue.record("a position of another epoch was taken")
      } catch TopicError.positionLost(let asked, let earliest) {
        #expect(asked == position)
        #expect(earliest.epoch != position.epoch)
      }
      await #expect(throws: TopicError.self) { try await waiting.read() }
      #expect(
        try await there.topic("epochs").messages(from: .earliest).texts(count: 30) == (0..<30).map { "new \($0)" })
    }
  }

  @Test("limits of a log by bytes and by age", arguments: EngineUnderTest.withSlowCluster)
  func limits(engine: EngineUnderTest) async throws {
    try await engine.run { here, _, _ in
      let small = try here.topic("bytes", limits: LogLimits(bytes: 1000))
      for number in 0..<50 { try await small.append(String(repeating: "\(number % 10)", count: 100)) }
      let reader = try await small.messages(from: .earliest)
      let kept = try await small.position().offset - small.earliestPosition().offset
      #expect(kept == 10)
      #expect(try await reader.texts(count: 1).first?.first == "0")
      // The newest stays, however large.
      try await small.append(String(repeating: "x", count: 5000))
      #expect(try await small.messages(from: .earliest).texts(count: 1).first?.count == 5000)

      let short = try here.topic("age", limits: LogLimits(age: .milliseconds(300)))
      for number in 0..<5 { try await short.append("old \(number)") }
      try await Task.sleep(for: .milliseconds(400))
      try await short.append("new")
      #expect(try await short.messages(from: .earliest).texts(count: 1) == ["new"])
    }
  }

  @Test("an append that is repeated is stored once", arguments: EngineUnderTest.withSlowCluster)
  func idempotence(engine: EngineUnderTest) async throws {
    try await engine.run { here, there, _ in
      let topic = try here.topic("once")
      let one = try await topic.append("one", as: "source", number: 1)
      let two = try await topic.append("two", as: "source", number: 2)
      #expect(try await there.topic("once").append("two", as: "source", number: 2) == two)
      #expect(try await topic.append("one", as: "source", number: 1) == two)
      #expect(one != two)
      let other = try await topic.append("of another", as: "other", number: 1)
      #expect(try await topic.messages(from: .earliest).texts(count: 3) == ["one", "two", "of another"])
      #expect(try await topic.position() == other)
      await #expect(throws: TopicError.self) { try await topic.append("x", as: "two words", number: 1) }
    }
  }

  @Test("a reader that is far too slow misses nothing and holds nobody", arguments: EngineUnderTest.withSlowCluster)
  func slowReader(engine: EngineUnderTest) async throws {
    var options = TopicsOptions()
    options.ringBytes = 4 << 10
    let observer = RecordingObserver()
    options.observer = observer
    try await engine.run(options) { here, _, _ in
      let topic = try here.topic("slow")
      let slow = try await topic.messages(from: .now)
      let quick = try await topic.messages(from: .now)
      async let seen = quick.read(count: 3000)
      let sink = topic.writer()
      try await sink.write("0")
      #expect(try await slow.read()?.text == "0")
      for number in 1..<3000 { try await sink.write("\(number)") }
      try await sink.close()
      #expect(try await seen.map(\.text) == (0..<3000).map { "\($0)" })
      #expect(try await slow.texts(count: 2999) == (1..<3000).map { "\($0)" })
      #expect(observer.count("fell behind") > 0)
      #expect(observer.count("losses") == 0)
      // And it is in the ring again.
      let reads = observer.count("log reads")
      try await topic.append("live")
      #expect(try await slow.read()?.text == "live")
      #expect(observer.count("log reads") <= reads + 1)
    }
  }

  @Test("policies for those who want less: the latest, or the end", arguments: EngineUnderTest.withSlowCluster)
  func policies(engine: EngineUnderTest) async throws {
    var options = TopicsOptions()
    options.ringBytes = 2 << 10
    try await engine.run(options) { here, _, _ in
      let topic = try here.topic("policies")
      let latest = try await topic.messages(from: .now, whenSlow: .latest)
      let strict = try await topic.messages(from: .now, whenSlow: .disconnect)
      let witness = try await topic.messages(from: .now)
      try await topic.append("0")
      for reader in [latest, strict, witness] { #expect(try await reader.read()?.text == "0") }
      for number in 1...100 { try await topic.append("\(number)") }
      #expect(try await witness.texts(count: 100).last == "100")
      // The witness may have read the last ones from the log, before they have come to the ring, where the newest is taken from.
      var seen: [Int] = []
      while seen.last != 100 { seen.append(try #require(Int(try await latest.read()?.text ?? ""))) }
      #expect(seen.count < 100 && seen == seen.sorted())
      await #expect(throws: TopicError.tooSlow) { try await strict.read() }
      try await topic.append("101")
      #expect(try await latest.read()?.text == "101")
    }
  }

  @Test("a cancelled read leaves the reader as it was", arguments: EngineUnderTest.withSlowCluster)
  func cancellation(engine: EngineUnderTest) async throws {
    try await engine.run { here, _, _ in
      let topic = try here.topic("cancelled")
      let reader = try await topic.messages(from: .now)
      for number in 0..<50 {
        let reading = Task { try await reader.read() }
        if number % 2 == 0 { try await Task.sleep(for: .milliseconds(1)) }
        reading.cancel()
        await #expect(throws: CancellationError.self) { try await reading.value }
      }
      try await topic.append("still there")
      #expect(try await reader.read()?.text == "still there")
      let waiting = Task { try await reader.read() }
      try await Task.sleep(for: .milliseconds(5))
      await #expect(throws: StreamError.concurrentRead) { try await reader.read() }
      reader.cancel()
      #expect(try await waiting.value == nil)
      #expect(try await reader.read() == nil)
    }
  }

  @Test("a thousand who come back at once share the reads of the log", arguments: EngineUnderTest.withSlowCluster)
  func comingBack(engine: EngineUnderTest) async throws {
    var options = TopicsOptions()
    options.ringBytes = 2 << 10
    let observer = RecordingObserver()
    options.observer = observer
    let (readers, count) = (1000, 500)
    try await engine.run(options) { here, there, _ in
      let sink = try here.topic("returning").writer()
      for number in 0..<count { try await sink.write("\(number)") }
      try await sink.close()
      let topic = try there.topic("returning")
      let first = try await topic.earliestPosition()
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<readers {
          group.addTask {
            let reader = try await topic.messages(from: .after(first))
            let texts = try await reader.texts(count: count)
            #expect(texts == (0..<count).map { "\($0)" })
          }
        }
        try await group.waitForAll()
      }
      // Alone, each would make three of them.
      #expect(observer.count("log reads") < readers / 2)
    }
  }

  @Test("joined: both halves of a topic as one stream", arguments: EngineUnderTest.withSlowCluster)
  func joined(engine: EngineUnderTest) async throws {
    try await engine.run { here, there, _ in
      let one = try await here.topic("joined").joined()
      let other = try await there.topic("joined").joined()
      try await one.write("from one")
      #expect(try await other.read()?.text == "from one")
      try await other.write("from the other")
      try await other.close()
      #expect(try await one.read()?.text == "from one")
      #expect(try await one.read()?.text == "from the other")
      await #expect(throws: StreamError.closed) { try await other.write("late") }
    }
  }

  @Test("closed topics end what waits", arguments: EngineUnderTest.withSlowCluster)
  func closing(engine: EngineUnderTest) async throws {
    try await engine.run { here, _, _ in
      let topic = try here.topic("closing")
      let reader = try await topic.messages(from: .now)
      let reading = Task { try await reader.read() }
      try await Task.sleep(for: .milliseconds(20))
      await here.close()
      await #expect(throws: TopicError.closed) { try await reading.value }
      await #expect(throws: TopicError.closed) { try await topic.append("late") }
      #expect(throws: TopicError.closed) { try here.topic("another") }
    }
  }

  @Test(
    "topics are listed with what they have, and trimmed; what is trimmed is lost, and said to be",
    arguments: EngineUnderTest.withSlowCluster)
  func summaries(engine: EngineUnderTest) async throws {
    try await engine.run { one, other, _ in
      #expect(try await one.names() == [])
      #expect(try await one.topic("none").summary() == nil)
      var positions: [Position] = []
      for text in ["one", "two", "three"] { positions.append(try await one.topic("b").append(text)) }
      try await one.topic("a").append("x", event: "tick")
      #expect(try await other.names() == ["a", "b"])
      let summary = try #require(try await other.topic("b").summary())
      #expect(summary.count == 3 && summary.byteCount == 11)
      #expect(summary.newest == positions[2])
      #expect(
        try await other.topic("b").messages(from: .after(summary.earliest)).texts(count: 3) == ["one", "two", "three"])
      let times = try await other.topic("b").messages(from: .earliest).read(count: 3).map(\.time)
      #expect(summary.earliestTime == times[0] && summary.newestTime == times[2])
      #expect(try await other.topic("a").summary()?.byteCount == 5)
      let slow = try await one.topic("b").messages(from: .after(positions[0]))
      #expect(try await other.topic("b").trim(to: LogLimits(count: .max, bytes: nil)) == 0)
      #expect(try await other.topic("b").trim(to: LogLimits(count: 1, bytes: nil)) == 2)
      #expect(try await other.topic("none").trim(to: LogLimits(count: 1)) == 0)
      let left = try #require(try await one.topic("b").summary())
      #expect(left.count == 1 && left.byteCount == 5 && left.newest == positions[2])
      await #expect(throws: TopicError.self) { try await one.topic("b").messages(from: .after(positions[0])) }
      await #expect(throws: TopicError.self) { try await slow.read() }
      #expect(try await one.topic("b").append("four").offsetIn(positions[2].epoch) == positions[2].offset + 1)
    }
  }
}

extension Position {
  /// The number, within an epoch.
  fileprivate func offsetIn(_ epoch: String) -> UInt64? { self.epoch == epoch ? offset : nil }
}
