#if NATS
  import Sluice
  import SluiceIO
  import SluiceTestSupport
  import SluiceTopics
  import Synchronization
  import Testing

  @testable import SluiceTopicsNATS

  @Suite("Topics on a real NATS server, which fails", .timeLimit(.minutes(2)))
  struct NATSTests {
    private var impatient: NATSOptions {
      var options = NATSOptions()
      options.commandTimeout = .milliseconds(400)
      options.probeInterval = .milliseconds(300)
      options.maxDelay = .milliseconds(200)
      return options
    }

    private func checkRun(
      _ url: String, count: Int, during: @escaping @Sendable () async throws -> Void
    ) async throws {
      let nats = impatient
      try await SluiceTopicsTests.checkRun(
        count: count, connecting: { try await Topics.nats(url, nats: nats, options: $0) }, during: during)
    }

    @Test(
      "connections that are cut again and again, in the middle of answers: all is stored once, and read once, in order")
    func cut() async throws {
      try await NATSHost.run { host in
        let relay = try await CuttingRelay(to: host.port)
        let serving = Task { try await relay.run() }
        try await checkRun("nats://127.0.0.1:\(relay.port)", count: 3000) {
          for number in 0..<25 {
            try await Task.sleep(for: .milliseconds(30))
            // At once, or behind some bytes more from the server.
            relay.cut(after: number % 3 == 0 ? 0 : Int.random(in: 1...2000))
          }
        }
        #expect(relay.cutCount > 10)
        serving.cancel()
        relay.stop()
      }
    }

    @Test("a server that stands still for longer than each time limit")
    func standstill() async throws {
      try await NATSHost.run { host in
        try await checkRun(host.url, count: 2000) {
          for _ in 0..<2 {
            try await Task.sleep(for: .milliseconds(100))
            host.halt()
            try await Task.sleep(for: .milliseconds(1100))
            host.go()
          }
        }
      }
    }

    @Test("a server that is killed: its positions stay good, and readers and writers go on")
    func killed() async throws {
      try await NATSHost.run { host in
        try await checkRun(host.url, count: 3000) {
          for _ in 0..<2 {
            try await Task.sleep(for: .milliseconds(150))
            try await host.kill()
            try await Task.sleep(for: .milliseconds(100))
            try await host.begin()
          }
        }
      }
    }

    @Test("a server that is killed and keeps nothing: the loss is told to those who wait and to those who come back")
    func killedInMemory() async throws {
      try await NATSHost.run { host in
        var options = impatient
        options.storage = .memory
        let topics = try await host.connect(options)
        let topic = try topics.topic("lost")
        let told = Mutex<[TopicLoss]>([])
        let resuming = try await topic.messages(
          from: .now, onLoss: .resume(from: .earliest) { loss in told.withLock { $0.append(loss) } })
        let strict = try await topic.messages(from: .now)
        var last: Position?
        for number in 0..<10 { last = try await topic.append("old \(number)") }
        _ = try await resuming.read(count: 10)
        _ = try await strict.read(count: 10)
        try await host.kill()
        try await host.begin()
        let new = try await topic.append("new")
        #expect(new.offset > (last?.offset ?? 0) + 1)
        #expect(try await resuming.read()?.position == new)
        #expect(told.withLock { $0.map(\.asked) } == [last])
        await #expect(throws: TopicError.self) { try await strict.read() }
        await #expect(throws: TopicError.self) { try await topic.messages(from: .after(#require(last))) }
        await topics.close()
      }
    }

    @Test("a store that is restored from an older copy: positions from behind it are void, others stay good")
    func restored() async throws {
      try await NATSHost.run { host in
        let topics = try await host.connect(impatient)
        let topic = try topics.topic("restored")
        for number in 0..<5 { try await topic.append("kept \(number)") }
        let kept = try await topic.position()
        try await host.kill()
        try await NATSHost.shell("cp -r \(host.folder)/store \(host.folder)/copy")
        try await host.begin()
        for number in 0..<5 { try await topic.append("lost \(number)") }
        let lost = try await topic.position()
        #expect(lost.epoch != kept.epoch)
        let waiting = try await topic.messages(from: .now)
        try await host.kill()
        try await NATSHost.shell("rm -r \(host.folder)/store && mv \(host.folder)/copy \(host.folder)/store")
        try await host.begin()
        let next = try await topic.append("next")
        #expect(next.epoch != lost.epoch && next.epoch != kept.epoch)
        #expect(try await topic.messages(from: .after(kept)).read()?.position == next)
        await #expect(throws: TopicError.self) { try await topic.messages(from: .after(lost)) }
        await #expect(throws: TopicError.self) { try await waiting.read() }
        let texts = try await topic.messages(from: .earliest).texts(count: 6)
        #expect(texts == (0..<5).map { "kept \($0)" } + ["next"])
        await topics.close()
      }
    }

    @Test(
      "a stream that is made anew has all its messages for who knew where those of the old one were",
      arguments: [(20, 30), (100, 40), (40, 300)])
    func madeAnew(oldCount: Int, newCount: Int) async throws {
      try await NATSHost.run { host in
        var options = TopicsOptions()
        // So that it is read from the stream.
        options.ringBytes = 100
        let (here, there) = (try await host.connect(options), try await host.connect(options))
        let topic = try here.topic("log")
        for number in 0..<oldCount { try await topic.append("old \(number)") }
        let other = try there.topic("log")
        // Read in parts, so that the places of many records are remembered.
        for behind in stride(from: 0, to: oldCount, by: 7) {
          let position = try await other.messages(from: .earliest).read(count: behind + 1).last?.position
          _ = try await other.messages(from: .after(#require(position))).read(count: oldCount - behind - 1)
        }
        try await host.wipe("log")
        var positions: [Position] = []
        for number in 0..<newCount { positions.append(try await topic.append("new \(number)")) }
        let all = (0..<newCount).map { "new \($0)" }
        #expect(try await other.messages(from: .earliest).texts(count: newCount) == all)
        for (index, position) in positions.enumerated() where index % 5 == 0 {
          let rest = all[(index + 1)...]
          #expect(try await other.messages(from: .after(position)).texts(count: rest.count) == Array(rest))
        }
        await here.close()
        await there.close()
      }
    }

    @Test("a stream that somebody else has purged: the loss is told to those whom it concerns, and the rest is read")
    func purgedByOthers() async throws {
      try await NATSHost.run { host in
        var options = TopicsOptions()
        options.ringBytes = 100
        let topics = try await host.connect(options)
        let topic = try topics.topic("log")
        var positions: [Position] = []
        for number in 0..<60 { positions.append(try await topic.append("\(number)")) }
        // One message is in each record, and the first record has none.
        try await host.ask("STREAM.PURGE.sluice_log", "{\"keep\":40}")
        #expect(try await topic.messages(from: .earliest).texts(count: 40) == (20..<60).map { "\($0)" })
        #expect(try await topic.summary()?.count == 40)
        await #expect(throws: TopicError.positionLost(asked: positions[9], earliest: positions[19])) {
          try await topic.messages(from: .after(positions[9]))
        }
        // In the middle, of somebody who reads across it.
        for sequence in [42, 43] {
          try await host.ask("STREAM.MSG.DELETE.sluice_log", "{\"seq\":\(sequence),\"no_erase\":true}")
        }
        let reader = try await topic.messages(from: .earliest)
        #expect(try await reader.texts(count: 20) == (20..<40).map { "\($0)" })
        await #expect(throws: TopicError.positionLost(asked: positions[39], earliest: positions[41])) {
          try await reader.read()
        }
        #expect(try await topic.messages(from: .after(positions[41])).texts(count: 18) == (42..<60).map { "\($0)" })
        // And all of it.
        try await host.ask("STREAM.PURGE.sluice_log")
        try await topic.append("new")
        #expect(try await topic.messages(from: .earliest).read()?.text == "new")
        await topics.close()
      }
    }

    @Test(
      "a stream that is deleted, with as many messages again: who had read the old one is told, and appends are in the new one"
    )
    func deleted() async throws {
      try await NATSHost.run { host in
        let (here, there) = (try await host.connect(NATSOptions()), try await host.connect(NATSOptions()))
        let topic = try here.topic("log")
        let old = try await topic.append("old")
        let reader = try await there.topic("log").messages(from: .earliest)
        #expect(try await reader.read()?.text == "old")
        try await host.wipe("log")
        // As many as the other process knows of.
        try await there.topic("log").append("new")
        await #expect(throws: TopicError.self) { try await reader.read() }
        let second = try await topic.append("newer")
        #expect(try await topic.messages(from: .earliest).texts(count: 2) == ["new", "newer"])
        #expect(try await there.topic("log").position() == second)
        await #expect(throws: TopicError.self) { try await topic.messages(from: .after(old)) }
        await here.close()
        await there.close()
      }
    }

    @Test("several processes that append to one topic at once: each one's messages are there once, in order")
    func contention() async throws {
      try await NATSHost.run { host in
        let (writers, each) = (6, 40)
        // Servers before 2.9.16 make a stream twice where several ask for it at once. That is avoided, but by waiting: on a busy machine not surely.
        let maker = try await host.connect(NATSOptions())
        try await maker.topic("shared").append("first")
        await maker.close()
        try await withThrowingTaskGroup(of: Void.self) { group in
          for writer in 0..<writers {
            group.addTask {
              let topics = try await host.connect(NATSOptions())
              for number in 0..<each { try await topics.topic("shared").append("\(writer) \(number)") }
              await topics.close()
            }
          }
          try await group.waitForAll()
        }
        let topics = try await host.connect(NATSOptions())
        let texts = try await topics.topic("shared").messages(from: .earliest).texts(count: 1 + writers * each)
        for writer in 0..<writers {
          #expect(texts.filter { $0.hasPrefix("\(writer) ") } == (0..<each).map { "\(writer) \($0)" })
        }
        await topics.close()
      }
    }

    @Test("what is beyond the limits leaves the stream, and the numbers of named writers stay known")
    func trimmed() async throws {
      try await NATSHost.run { host in
        var options = TopicsOptions()
        options.limits = LogLimits(count: 20, bytes: 10_000)
        let topics = try await host.connect(NATSOptions(), options)
        let topic = try topics.topic("trimmed")
        let named = try await topic.append("named", as: "source", number: 7)
        for number in 0..<300 { try await topic.append("\(number)") }
        #expect(try await topic.append("named", as: "source", number: 7) == named)
        #expect(try await topic.append("named", as: "source", number: 3) == named)
        #expect(try await topic.messages(from: .earliest).texts(count: 20) == (280..<300).map { "\($0)" })
        for _ in 0..<200 {
          let info = try await host.ask("STREAM.INFO.sluice_trimmed")
          if let count = info["state"]?["messages"]?.number, count <= 100 { break }
          try await Task.sleep(for: .milliseconds(5))
        }
        #expect(try #require(try await host.ask("STREAM.INFO.sluice_trimmed")["state"]?["messages"]?.number) <= 100)
        let next = try await topic.append("again", as: "source", number: 8)
        #expect(next.offset > named.offset)
        await topics.close()
      }
    }

    @Test("what is trimmed leaves a stream that has copies, and nothing else does")
    func trimmedCopies() async throws {
      let host = try await NATSClusterHost.start()
      var options = TopicsOptions()
      options.limits = LogLimits(count: 20)
      let topics = try await host.connect(options)
      let topic = try topics.topic("trimmed")
      for number in 0..<300 { try await topic.append("\(number)") }
      let server = try NATSServer("nats://" + host.cluster.hosts, host.options)
      let connection = try await NATSConnection.open(server.hosts[0], of: server)
      defer { connection.close() }
      for _ in 0..<400 {
        let info = try await connection.ask("$JS.API.STREAM.INFO." + server.names.stream("trimmed"), "")
        if let count = info["state"]?["messages"]?.number, (20...100).contains(count) { break }
        try await Task.sleep(for: .milliseconds(10))
      }
      let info = try await connection.ask("$JS.API.STREAM.INFO." + server.names.stream("trimmed"), "")
      #expect(try (20...100).contains(#require(info["state"]?["messages"]?.number)))
      #expect(try await topic.messages(from: .earliest).texts(count: 20) == (280..<300).map { "\($0)" })
      await topics.close()
    }

    @Test("messages up to what the server takes; a larger one is refused, and the topic goes on")
    func large() async throws {
      try await NATSHost.run("max_payload: 700000") { host in
        let topics = try await host.connect(TopicsOptions())
        let topic = try topics.topic("large")
        let large = [UInt8](repeating: 7, count: 690_000)
        try await topic.append(Bytes(large))
        await #expect(throws: TopicError.self) { try await topic.append(Bytes([UInt8](repeating: 7, count: 700_000))) }
        try await topic.append("small")
        let messages = try await topic.messages(from: .earliest).read(count: 2)
        #expect(messages[0].bytes.count == 690_000)
        #expect(messages[1].text == "small")
        await topics.close()
      }
    }

    @Test("a server without JetStream, or with small limits, is refused, and why is said")
    func refused() async throws {
      try await NATSHost.run(hasJetStream: false) { host in
        let error = await #expect(throws: TopicError.self) { try await host.connect(NATSOptions()) }
        #expect("\(String(describing: error))".contains("JetStream"))
      }
      try await NATSHost.run("max_payload: 1000") { host in
        let error = await #expect(throws: TopicError.self) { try await host.connect(NATSOptions()) }
        #expect("\(String(describing: error))".contains("max_payload"))
      }
      try await NATSHost.run { host in
        var options = NATSOptions()
        options.replicas = 3
        let three = options
        await #expect(throws: TopicError.self) { try await host.connect(three) }
        // What has the name, and is something else.
        try await host.ask(
          "STREAM.CREATE.sluice_taken", #"{"name":"sluice_taken","subjects":["mine"],"storage":"memory"}"#)
        let topics = try await host.connect(TopicsOptions())
        let error = await #expect(throws: TopicError.self) { try await topics.topic("taken").append("x") }
        #expect("\(String(describing: error))".contains("sluice_taken"))
        await topics.close()
      }
    }

    @Test("users and tokens, in the URL or not; what is not permitted is said at once")
    func permissions() async throws {
      try await NATSHost.run("authorization { token: \"secret\" }") { host in
        await #expect(throws: TopicError.self) { try await host.connect(NATSOptions()) }
        let topics = try await Topics.nats("nats://secret@127.0.0.1:\(host.port)")
        try await topics.topic("a").append("b")
        #expect(try await topics.topic("a").messages(from: .earliest).read()?.text == "b")
        await topics.close()
        var options = NATSOptions()
        options.token = "wrong"
        let wrong = options
        let error = await #expect(throws: TopicError.self) { try await host.connect(wrong) }
        if case .refused? = error {} else { Issue.record("\(String(describing: error))") }
      }
      let users = """
        authorization { users = [
          { user: ann, password: "p@w" }
          { user: poor, password: pw, permissions: { publish: ["$JS.API.STREAM.MSG.GET.>"], subscribe: [">"] } }
          { user: deaf, password: pw, permissions: { publish: [">"], subscribe: ["none"] } }
          { user: late, password: pw, permissions: { publish: [">"], subscribe: ["_INBOX.>"] } }
          { user: just, password: pw, permissions: {
              publish: ["$JS.API.STREAM.CREATE.*", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*",
                "$JS.API.STREAM.PURGE.*", "$JS.API.STREAM.MSG.DELETE.*", "$JS.API.DIRECT.GET.*", "sluice.t.>", "sluice.life", "sluice.make.>"]
              subscribe: ["_INBOX.>", "sluice.live.>", "sluice.make.>"] } }
        ] }
        """
      try await NATSHost.run(users) { host in
        let topics = try await Topics.nats("nats://ann:p%40w@127.0.0.1:\(host.port)")
        try await topics.topic("a").append("b")
        await topics.close()
        // What is needed, and no more.
        var options = TopicsOptions()
        options.limits = LogLimits(count: 5)
        let just = try await Topics.nats("nats://just:pw@127.0.0.1:\(host.port)", options: options)
        let reader = try await just.topic("b").messages(from: .now)
        // One by one: the log keeps five, which a reader that is later has lost.
        for number in 0..<100 {
          try await just.topic("b").append("\(number)")
          #expect(try await reader.texts(count: 1) == ["\(number)"])
        }
        #expect(try await just.topic("b").messages(from: .earliest).texts(count: 5).first == "95")
        await just.close()
        for user in ["poor", "deaf", "late"] {
          var options = NATSOptions()
          options.username = user
          options.password = "pw"
          // Another life, which this one may not begin.
          options.prefix = "other"
          let limited = options
          let error = await #expect(throws: TopicError.self) { try await host.connect(limited) }
          guard case .refused(let reason)? = error else {
            Issue.record("\(user): \(String(describing: error))")
            continue
          }
          #expect(reason.contains("Permissions Violation"))
        }
      }
    }

    @Test("TLS: the certificate is checked, and its name")
    func tls() async throws {
      let certificates = try await Certificates.load()
      func configuration(_ name: String) -> String {
        "tls { cert_file: \"\(certificates.file(name + ".pem"))\", key_file: \"\(certificates.file(name + ".key"))\" }"
      }
      try await NATSHost.run(configuration("good")) { host in
        let url = "tls+nats://127.0.0.1:\(host.port)"
        var options = NATSOptions()
        options.authorityFile = certificates.file("root.pem").string
        let good = options
        let topics = try await Topics.nats(url, nats: good)
        try await topics.topic("a").append("b")
        #expect(try await topics.topic("a").messages(from: .earliest).read()?.text == "b")
        await topics.close()
        // Of an authority that is not ours, and without TLS.
        options.authorityFile = certificates.file("other-root.pem").string
        let other = options
        await #expect(throws: TopicError.self) { try await Topics.nats(url, nats: other) }
        await #expect(throws: TopicError.self) { try await Topics.nats(url) }
        await #expect(throws: TopicError.self) { try await host.connect(NATSOptions()) }
      }
      try await NATSHost.run(configuration("wrong-host")) { host in
        var options = NATSOptions()
        options.authorityFile = certificates.file("root.pem").string
        let good = options
        await #expect(throws: TopicError.self) {
          try await Topics.nats("tls+nats://127.0.0.1:\(host.port)", nats: good)
        }
      }
    }

    @Test("nobody there: an error within the time limit; another server of the list is taken")
    func nobody() async throws {
      do {
        _ = try await Topics.nats("nats://127.0.0.1:1")
        Issue.record("connected to nobody")
      } catch TopicError.unavailable {}
      for url in ["http://127.0.0.1:1", "nats://127.0.0.1:1/path", "nats:", "nats://", "nats://a,,b"] {
        await #expect(throws: (any Error).self) { try await Topics.nats(url) }
      }
      var options = NATSOptions()
      options.prefix = "a.b"
      let dotted = options
      await #expect(throws: TopicError.self) { try await Topics.nats("nats://127.0.0.1:1", nats: dotted) }
      try await NATSHost.run { host in
        for _ in 0..<4 {
          let topics = try await Topics.nats("nats://127.0.0.1:1,127.0.0.1:\(host.port)")
          try await topics.topic("a").append("b")
          await topics.close()
        }
      }
    }

    @Test("connections of closed topics are gone from the server, and nothing of a reader is left there")
    func nothingLeft() async throws {
      try await NATSHost.run { host in
        let topics = try await host.connect(NATSOptions())
        let reader = try await topics.topic("left").messages(from: .now)
        try await topics.topic("left").append("x")
        _ = try await reader.read()
        #expect(try await host.connectionCount() == 2)
        #expect(try await host.ask("STREAM.INFO.sluice_left")["state"]?["consumer_count"]?.number == 0)
        await topics.close()
        for _ in 0..<200 where try await host.connectionCount() > 0 { try await Task.sleep(for: .milliseconds(5)) }
        #expect(try await host.connectionCount() == 0)
      }
    }
  }

  @Suite("What JetStream answers, and what is stored there")
  struct NATSRecordTests {
    private let record = NATSRecord(
      life: "life",
      epochs: [LogEpoch(name: "a", first: 1024, last: 1030), LogEpoch(name: "b", first: 2048, last: 2050)],
      earliest: 1027, base: .init(sequence: 3, offset: 1026, bytes: 77, time: 5), bytesBefore: 1 << 40, time: 1 << 41,
      writersAt: 9, writers: [.init(name: "n-x", number: 1 << 53, offset: 2050, time: 6)], writer: "w",
      firstNumber: 300,
      count: 2, byteCount: 9,
      contents: [TopicContent("zwölf", event: "e"), TopicContent(kind: .binary, bytes: [0, 255])])

    @Test("a record is read as it was written, and no beginning of it is one")
    func roundTrip() throws {
      let bytes = record.encoded
      let read = try #require(NATSRecord(bytes, withContents: true))
      #expect(read.encoded == bytes)
      #expect(read.contents == record.contents)
      #expect(read.epochs == record.epochs)
      #expect(read.firstOffset == 2049)
      #expect(read.messages(after: 2049, in: try #require(read.state)).map(\.position.description) == ["b.2050"])
      #expect(NATSRecord(bytes, withContents: false)?.contents.isEmpty == true)
      for count in 0..<bytes.count { #expect(NATSRecord(bytes.prefix(count), withContents: true) == nil) }
    }

    @Test("what is changed at any byte is a record or none, and stops nothing")
    func changed() {
      let bytes = Array(record.encoded)
      for index in bytes.indices {
        for change: UInt8 in [1, 0x7F, 0x80, 0xFF] {
          var changed = bytes
          changed[index] ^= change
          guard let read = NATSRecord(Bytes(changed), withContents: true), let state = read.state else { continue }
          _ = read.messages(after: 0, in: state)
        }
      }
    }

    @Test(
      "JSON, as JetStream writes it",
      arguments: [
        (#"{"error":{"code":400,"err_code":10071,"description":"wrong \u003e \"x\" é"},"seq":0}"#, true),
        (#" [ 1 , -2.5e3, true, null, "\ud83d", {} , [] ] "#, true), ("", false), ("{", false), (#"{"a":}"#, false),
        (#"{"a":1,}"#, false), ("[1", false), (#""a"#, false), (#""\u12"#, false), ("1 2", false), ("nul", false),
        (String(repeating: "[", count: 100), false),
      ])
    func json(text: String, isValid: Bool) {
      #expect((NATSValue(Bytes(text)) != nil) == isValid)
    }

    @Test("an error of JetStream's is told with its text")
    func error() throws {
      let text = #"{"error":{"code":400,"err_code":10071,"description":"wrong \u003e \"x\" é"},"seq":12}"#
      let value = try #require(NATSValue(Bytes(text)))
      #expect(NATSError(value)?.text == "wrong > \"x\" é")
      #expect(NATSError(value)?.code == 10071)
      #expect(value["seq"]?.number == 12)
    }
  }

  /// Passes bytes on to a server, and cuts all connections when it is told to.
  private final class CuttingRelay: Sendable {
    private let listener: SocketListener
    private let target: Int
    private struct State {
      var streams: [SocketStream] = []
      /// Bytes from the server, before all connections are cut.
      var rest: Int?
      var cutCount = 0
    }
    private let state = Mutex(State())
    var port: Int { listener.port }
    var cutCount: Int { state.withLock { $0.cutCount } }

    init(to target: Int) async throws {
      listener = try await TCP.listen("127.0.0.1", port: 0)
      self.target = target
    }

    func run() async throws {
      try await withThrowingDiscardingTaskGroup { group in
        while let client = try await listener.read() {
          group.addTask {
            guard let server = try? await TCP.connect("127.0.0.1", port: self.target) else { return client.abort() }
            self.state.withLock { $0.streams += [client, server] }
            await withDiscardingTaskGroup { group in
              group.addTask { try? await client.pipe(server) }
              group.addTask {
                while let bytes = try? await server.read() {
                  let (part, mustCut) = self.pass(bytes)
                  try? await client.write(part)
                  if mustCut { self.cutAll() }
                }
                client.abort()
              }
            }
          }
        }
      }
    }

    private func pass(_ bytes: Bytes) -> (Bytes, mustCut: Bool) {
      state.withLock { state in
        guard let rest = state.rest else { return (bytes, false) }
        state.rest = rest - bytes.count
        return rest < bytes.count ? (bytes.prefix(max(rest, 0)), true) : (bytes, false)
      }
    }

    func cut(after count: Int) {
      if count == 0 { cutAll() } else { state.withLock { $0.rest = count } }
    }

    private func cutAll() {
      let streams = state.withLock { state in
        state.rest = nil
        state.cutCount += 1
        defer { state.streams = [] }
        return state.streams
      }
      for stream in streams { stream.abort() }
    }

    func stop() {
      cutAll()
      listener.cancel()
    }
  }
#endif
