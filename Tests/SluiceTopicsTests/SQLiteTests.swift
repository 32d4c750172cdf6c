#if SQLite
  import Sluice
  import SluiceIO
  import SluiceTopics
  import Synchronization
  import Testing

  @testable import SluiceTopicsSQLite

  /// A file of a test's own, in a folder of its own.
  struct SQLiteHost: EngineHost {
    let folder: String
    var path: String { folder + "/topics.db" }

    static func start() async throws -> SQLiteHost {
      let folder = "/tmp/sluice-sqlite-\(UInt64.random(in: 0 ... .max))"
      let host = SQLiteHost(folder: folder)
      try await host.shell("mkdir -m 700 \(folder)")
      return host
    }

    func connect(_ options: TopicsOptions) async throws -> Topics { try await connect(SQLiteOptions(), options) }

    func connect(_ sqlite: SQLiteOptions, _ options: TopicsOptions = TopicsOptions()) async throws -> Topics {
      try await Topics.sqlite(path, sqlite: sqlite, options: options)
    }

    func wipe(_ topic: String) async throws {
      let database = try SQLiteDatabase(path, lockTimeout: .seconds(5))
      try database.transaction("BEGIN IMMEDIATE") {
        for table in ["messages", "writers", "topics"] { try database.run("DELETE FROM \(table)") }
      }
    }

    func shell(_ command: String) async throws {
      let process = try await ChildProcess.spawn(["sh", "-c", command])
      #expect(try await process.waitForExit() == nil)
    }

    func stop() async { try? await shell("rm -r \(folder)") }

    /// Runs a test with a file.
    static func run(_ body: (SQLiteHost) async throws -> Void) async throws {
      let host = try await start()
      do { try await body(host) } catch {
        await host.stop()
        throw error
      }
      await host.stop()
    }
  }

  extension EngineUnderTest {
    static let sqlite = EngineUnderTest(testDescription: "sqlite") { try await SQLiteHost.start() }
  }

  @Suite("Topics in a file", .timeLimit(.minutes(2)))
  struct SQLiteTests {
    @Test("messages that somebody else has deleted: the loss is told to those whom it concerns, and the rest is read")
    func deletedByOthers() async throws {
      try await SQLiteHost.run { host in
        var options = TopicsOptions()
        options.ringBytes = 100
        let topics = try await host.connect(options)
        let topic = try topics.topic("log")
        var positions: [Position] = []
        for number in 0..<60 { positions.append(try await topic.append("\(number)")) }
        let database = try SQLiteDatabase(host.path, lockTimeout: .seconds(5))
        func delete(_ range: Range<Int>) throws {
          for position in positions[range] {
            try database.run("DELETE FROM messages WHERE number = ?", .integer(Int64(position.offset)))
          }
        }
        try delete(0..<20)
        try delete(40..<42)
        await #expect(throws: TopicError.positionLost(asked: positions[9], earliest: positions[19])) {
          try await topic.messages(from: .after(positions[9])).read()
        }
        let reader = try await topic.messages(from: .after(positions[19]))
        #expect(try await reader.texts(count: 20) == (20..<40).map { "\($0)" })
        await #expect(throws: TopicError.positionLost(asked: positions[39], earliest: positions[41])) {
          try await reader.read()
        }
        #expect(try await topic.messages(from: .after(positions[41])).texts(count: 18) == (42..<60).map { "\($0)" })
        await topics.close()
      }
    }

    @Test(
      "who only reads needs the file to be there, changes nothing in it, and sees the first message of a topic that nobody had written"
    )
    func readOnly() async throws {
      try await SQLiteHost.run { host in
        var options = SQLiteOptions()
        options.access = .readOnly
        await #expect(throws: TopicError.self) { try await host.connect(options) }
        try await host.shell("test ! -e \(host.path)")
        let theirs = try await host.connect(TopicsOptions())
        try await theirs.topic("other").append("before")
        let ours = try await host.connect(options)
        let topic = try ours.topic("log")
        await #expect(throws: TopicError.refused("the file was opened for reading only")) {
          try await topic.append("x")
        }
        let reader = try await topic.messages(from: .earliest)
        let position = try await topic.position()
        // Nothing was written by that.
        let database = try SQLiteDatabase(host.path, readOnly: true, lockTimeout: .seconds(5))
        #expect(try database.integer("SELECT count(*) FROM topics") == 1)
        for number in 0..<3 { try await theirs.topic("log").append("\(number)") }
        #expect(try await reader.texts(count: 3) == ["0", "1", "2"])
        #expect(try await topic.messages(from: .after(position)).texts(count: 3) == ["0", "1", "2"])
        #expect(try await ours.topic("other").messages(from: .earliest).texts(count: 1) == ["before"])
        await ours.close()
        await theirs.close()
      }
    }

    @Test("a writer that is killed at any time loses nothing that was acknowledged, and another process reads on")
    func killedWriter() async throws {
      try await SQLiteHost.run { host in
        let topics = try await host.connect(TopicsOptions())
        let topic = try topics.topic("log")
        let reader = try await topic.messages(from: .earliest)
        var acknowledged: [String] = []
        for life in 0..<4 {
          let process = try await ChildProcess.spawn([topicsServer, "append", host.path, "\(life)"])
          let wanted = acknowledged.count + 20 + 37 * life
          while acknowledged.count < wanted, let line = try await process.lines.read() { acknowledged.append(line) }
          process.send(.kill)
          // What it had said before.
          while let line = try? await process.lines.read() { acknowledged.append(line) }
          _ = try? await process.waitForExit()
        }
        try await topic.append("end")
        var (seen, last) = ([String](), Position?.none)
        while let message = try await reader.read(), message.text != "end" {
          seen.append("\(message.position) \(message.text)")
          if let last, last.epoch == message.position.epoch {
            #expect(message.position.offset == last.offset + 1)
          }
          last = message.position
        }
        // Each life's are all there in order; the newest ones of each may have been stored without the answer having left.
        let stored = Set(seen)
        #expect(acknowledged.allSatisfy(stored.contains))
        #expect(stored.count == seen.count)
        #expect(seen.count - acknowledged.count <= 4 * 64)
        for life in 0..<4 {
          let numbers = seen.compactMap { line -> Int? in
            let words = line.split(separator: " ")
            return words[1] == "\(life)" ? Int(words[2]) : nil
          }
          #expect(numbers == Array(0..<numbers.count))
        }
        await topics.close()
      }
    }

    @Test("positions outlive the processes: a log goes on in a new epoch, and old positions stay good")
    func reopened() async throws {
      try await SQLiteHost.run { host in
        let one = try await host.connect(TopicsOptions())
        let positions = [try await one.topic("log").append("one"), try await one.topic("log").append("two")]
        await one.close()
        let other = try await host.connect(TopicsOptions())
        let topic = try other.topic("log")
        let three = try await topic.append("three")
        #expect(three.epoch != positions[0].epoch)
        #expect(try await topic.messages(from: .after(positions[0])).texts(count: 2) == ["two", "three"])
        #expect(try await topic.messages(from: .last(2)).texts(count: 2) == ["two", "three"])
        #expect(try await topic.messages(from: .earliest).texts(count: 3) == ["one", "two", "three"])
        await other.close()
      }
    }

    @Test("an older copy that takes the file's place knows the positions of what it lacks as lost")
    func restoredCopy() async throws {
      try await SQLiteHost.run { host in
        let one = try await host.connect(TopicsOptions())
        let kept = try await one.topic("log").append("kept")
        await one.close()
        try await host.shell("cp \(host.path) \(host.folder)/copy")
        let two = try await host.connect(TopicsOptions())
        var lost: Position?
        for number in 0..<5 { lost = try await two.topic("log").append("lost \(number)") }
        await two.close()
        // Over it, so that it is the same file still.
        try await host.shell("cat \(host.folder)/copy >\(host.path)")
        let three = try await host.connect(TopicsOptions())
        let topic = try three.topic("log")
        for number in 0..<10 { try await topic.append("new \(number)") }
        let asked = try #require(lost)
        await #expect(throws: TopicError.self) { try await topic.messages(from: .after(asked)) }
        #expect(try await topic.messages(from: .after(kept)).texts(count: 1) == ["new 0"])
        await three.close()
      }
    }

    @Test("a file that is deleted under those who use it is another log: readers are told, appends are in the new one")
    func deletedFile() async throws {
      try await SQLiteHost.run { host in
        let (here, there) = (try await host.connect(TopicsOptions()), try await host.connect(TopicsOptions()))
        let topic = try here.topic("log")
        try await topic.append("old")
        let reader = try await there.topic("log").messages(from: .earliest)
        #expect(try await reader.read()?.text == "old")
        try await host.shell("rm \(host.path)*")
        try await topic.append("new")
        await #expect(throws: TopicError.self) { try await reader.read() }
        #expect(try await there.topic("log").messages(from: .earliest).texts(count: 1) == ["new"])
        await here.close()
        await there.close()
      }
    }

    @Test("a file that is full refuses appends and says so; what was stored is read, and what fits is taken again")
    func full() async throws {
      try await SQLiteHost.run { host in
        var sqlite = SQLiteOptions()
        sqlite.maxFileBytes = 200 << 10
        let topics = try await host.connect(sqlite)
        let topic = try topics.topic("log")
        var stored = 0
        let error = await #expect(throws: TopicError.self) {
          while stored < 100 {
            try await topic.append(TopicContent(String(repeating: "x", count: 8000)))
            stored += 1
          }
        }
        #expect(stored > 10)
        guard case .refused(let reason)? = error else {
          Issue.record("\(String(describing: error))")
          return
        }
        #expect(reason.contains("full"))
        #expect(try await topic.messages(from: .earliest).read(count: stored).count == stored)
        // With a limit, what is trimmed makes room.
        let small = try await host.connect(sqlite)
        let limited = try small.topic("log", limits: LogLimits(count: 3))
        try await limited.append("small")
        for _ in 0..<50 { try await limited.append(TopicContent(String(repeating: "y", count: 8000))) }
        #expect(try await limited.messages(from: .earliest).read(count: 3).count == 3)
        await small.close()
        await topics.close()
      }
    }

    @Test("what is no file of topics is refused and left as it is", arguments: ["text", "other", "folder", "missing"])
    func refused(kind: String) async throws {
      try await SQLiteHost.run { host in
        switch kind {
        case "text": try await host.shell("yes 'not a database' | head -c 10000 >\(host.path)")
        case "other":
          try SQLiteDatabase(host.path, lockTimeout: .seconds(1)).run("CREATE TABLE mine(value)")
        case "folder": try await host.shell("mkdir \(host.path)")
        default: break
        }
        let path = kind == "missing" ? host.folder + "/none/topics.db" : host.path
        if kind != "missing" { try await host.shell("cp -r \(path) \(host.folder)/before") }
        do {
          _ = try await Topics.sqlite(path)
          Issue.record("\(kind) was taken")
        } catch TopicError.refused(let reason) {
          #expect(reason.contains(path))
        }
        if kind != "missing" { try await host.shell("diff -r \(path) \(host.folder)/before") }
      }
    }

    @Test("a file that another process keeps locked is waited for, and within its time limit only")
    func locked() async throws {
      try await SQLiteHost.run { host in
        var sqlite = SQLiteOptions()
        sqlite.lockTimeout = .milliseconds(200)
        var options = TopicsOptions()
        options.appendTimeout = .milliseconds(500)
        let topics = try await host.connect(sqlite, options)
        let topic = try topics.topic("log")
        try await topic.append("before")
        do {
          let other = try SQLiteDatabase(host.path, lockTimeout: .seconds(1))
          try other.run("BEGIN IMMEDIATE")
          let error = await #expect(throws: TopicError.self) { try await topic.append("meanwhile") }
          #expect("\(String(describing: error))".contains("locked"))
          // Who reads is not held.
          #expect(try await topic.messages(from: .earliest).texts(count: 1) == ["before"])
          try other.run("ROLLBACK")
        }
        try await topic.append("after")
        #expect(try await topic.messages(from: .earliest).texts(count: 2) == ["before", "after"])
        await topics.close()
      }
    }
  }

  /// Beside the program that runs the tests, whatever the build's folder.
  private let topicsServer: String = {
    let tests = CommandLine.arguments[0]
    return tests.prefix(upTo: tests.lastIndex(of: "/") ?? tests.startIndex) + "/topics-server"
  }()
#endif
