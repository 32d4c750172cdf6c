#if NATS
  import SluiceStreams
  import SluiceTopics
  import Synchronization

  /// Logs as streams of JetStream.
  ///
  /// Two connections at the most: one for appends and reads, and one for what is new in all topics that somebody reads.
  final class NATSTopicEngine: TopicEngine {
    private let server: NATSServer
    private let link: NATSLink
    private let follower: NATSFollower
    private let unwritten = LogEpoch(name: LogEpoch.newName(), first: 1, last: 0)
    private let logs = Mutex<[String: NATSLog]>([:])
    /// Of how many topics something is remembered. What is forgotten is asked for again.
    private static let maxLogs = 4096
    /// A batch, and what a record has beside it.
    private static let minPayload = 640 << 10
    private static let maxNumber: UInt64 = 1 << 53

    init(_ server: NATSServer, _ observer: (any TopicObserver)?) {
      self.server = server
      link = NATSLink(server, observer)
      follower = NATSFollower(server, observer)
    }

    /// Whether the server is there, and permits what is needed. The servers of a cluster may be about to choose another leader, which takes them up to ten seconds.
    func check() async throws {
      let deadline = ContinuousClock.now + server.options.commandTimeout.bounded * 4
      while true {
        do { return try await checkOnce() } catch TopicError.unavailable(let reason) {
          guard server.hosts.count > 1, ContinuousClock.now < deadline else { throw TopicError.unavailable(reason) }
          try await pause(for: .milliseconds(100))
        }
      }
    }

    private func checkOnce() async throws {
      let connection = try await link.connection()
      guard connection.maxPayload >= Self.minPayload else {
        throw TopicError.refused(
          "the server's max_payload is \(connection.maxPayload) bytes, and \(Self.minPayload) are needed")
      }
      let denial = Mutex<String?>(nil)
      // The answers that are waited for here come behind a denial.
      let subject = server.names.live("sluice:check")
      let listener = connection.listen(to: subject) { message in
        if message.status == NATSMessage.denied { denial.withLock { $0 = message.bytes.string } }
      }
      defer { connection.silence(listener, on: subject) }
      do { _ = try await connection.currentLife(server) } catch TopicError.unavailable(let reason) {
        guard connection.isOpen else { throw TopicError.unavailable(reason) }
        throw TopicError.unavailable("is JetStream enabled? \(reason)")
      }
      if let denial = denial.withLock({ $0 }) { throw TopicError.refused(denial) }
    }

    private func log(_ topic: String) -> NATSLog {
      logs.withLock { logs in
        if let log = logs[topic] { return log }
        let log = NATSLog(topic, server, unwritten: unwritten)
        if logs.count >= Self.maxLogs { logs = logs.filter { $0.value.isInUse } }
        logs[topic] = log
        return log
      }
    }

    func state(of topic: String) async throws -> LogState {
      try await read(topic, after: 0, maxCount: 0, maxBytes: 0).state
    }

    func read(_ topic: String, after offset: UInt64, maxCount: Int, maxBytes: Int) async throws -> LogSlice {
      let connection = try await link.connection()
      return try await log(topic).read(after: offset, maxCount: maxCount, maxBytes: maxBytes, by: connection)
    }

    func append(_ batch: AppendBatch, to topic: String, limits: LogLimits) async throws -> Position {
      guard batch.lastNumber <= Self.maxNumber else { throw TopicError.refused("a writer's number is up to 2^53") }
      return try await log(topic).append(batch, limits: limits, by: link)
    }

    // MARK: looking after logs

    func names() async throws -> [String] {
      let connection = try await link.connection()
      var names: [String] = []
      var seen = 0
      while true {
        let answer = try await connection.ask(server.names.list, "{\"offset\":\(seen)}")
        if let error = NATSError(answer) { throw error.topicError("STREAM.NAMES") }
        let streams = answer["streams"]?.array?.compactMap(\.text) ?? []
        for name in streams.compactMap(server.names.topic) where Topics.isName(name) {
          if try await size(of: name) != nil { names.append(name) }
        }
        seen += streams.count
        guard !streams.isEmpty, let total = answer["total"]?.number, seen < total else { return names }
      }
    }

    func size(of topic: String) async throws -> LogSize? {
      let connection = try await link.connection()
      return try await log(topic).size(by: connection)
    }

    func trim(_ topic: String, to limits: LogLimits) async throws -> Int {
      try await log(topic).trim(to: limits, by: link)
    }

    func follow(
      _ topic: String, after position: Position, _ deliver: @escaping @Sendable (Delivery) -> Void
    ) -> any Following {
      follower.follow(topic, log(topic), after: position, deliver)
    }

    func close() async {
      follower.close()
      link.close()
    }
  }
#endif
