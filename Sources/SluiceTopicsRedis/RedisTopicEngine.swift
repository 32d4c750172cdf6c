#if Redis
  import SluiceStreams
  import SluiceTopics
  import Synchronization

  /// Logs as streams of a Redis server, or of a cluster.
  ///
  /// Three connections to a server at the most: one for appends, one for reads of logs, and one that waits for what is new in all topics that somebody reads. Of
  /// a cluster, the third is one for each topic.
  final class RedisTopicEngine: TopicEngine {
    private let options: RedisOptions
    private let router: RedisRouter
    private let observer: (any TopicObserver)?
    /// By topic; "" for all, where there is one server.
    private let followers = Mutex<[String: RedisFollower]>([:])

    /// Writers that name themselves are remembered for a day; those of a process as long as an append may be repeated, and more.
    private static let (namedWriterMemory, writerMemory) = (86_400, 3_600)
    /// Numbers are Lua's at the server.
    private static let maxNumber: UInt64 = 1 << 53
    /// How often a command is sent on to where its key is, within one call.
    private static let maxRedirections = 5

    init(_ servers: [RedisServer], _ observer: (any TopicObserver)?) {
      options = servers.first?.options ?? RedisOptions()
      router = RedisRouter(servers, observer)
      self.observer = observer
    }

    /// Whether the server is there, and permits what is needed. A cluster may be about to put another server in the place of one that is away.
    func check() async throws {
      let deadline = ContinuousClock.now + options.commandTimeout.bounded
      while true {
        do {
          _ = try await state(of: "sluice:check")
          return
        } catch TopicError.unavailable(let reason) {
          guard router.isClustered, ContinuousClock.now < deadline else { throw TopicError.unavailable(reason) }
          try await pause(for: .milliseconds(100))
        }
      }
    }

    private func keys(_ topic: String) -> [Bytes] {
      [Bytes(options.logKey(topic)), Bytes("\(options.prefix){\(topic)}:meta")]
    }

    // MARK: reading

    func state(of topic: String) async throws -> LogState {
      try await readLog(topic, after: 0, maxCount: 0, maxBytes: 0).state
    }

    func read(_ topic: String, after offset: UInt64, maxCount: Int, maxBytes: Int) async throws -> LogSlice {
      try await readLog(topic, after: offset, maxCount: maxCount, maxBytes: maxBytes)
    }

    private func readLog(_ topic: String, after offset: UInt64, maxCount: Int, maxBytes: Int) async throws -> LogSlice {
      let arguments = [Bytes("\(offset)"), Bytes("\(maxCount)"), Bytes("\(maxBytes)")]
      let reply = try await run(RedisScripts.read, on: \.reads, topic, keys(topic), arguments)
      guard let parts = reply.array, parts.count == 4,
        let state = LogState(redisEpochs: parts[0], last: parts[1], earliest: parts[2]), let entries = parts[3].array
      else { throw foreign(topic) }
      let first = max(offset + 1, state.earliest ?? 0)
      var messages: [TopicMessage] = []
      var byteCount = 0
      for entry in entries {
        guard let all = RedisMessage.all(of: entry) else { throw foreign(topic) }
        for message in all where message.offset >= first {
          byteCount += message.content.byteCount
          if messages.count == maxCount || byteCount > maxBytes && !messages.isEmpty {
            return LogSlice(messages, state)
          }
          messages.append(message.message(at: state.position(of: message.offset)))
        }
      }
      return LogSlice(messages, state)
    }

    private func foreign(_ topic: String) -> TopicError {
      .refused("the data of topic \(topic) is not what Sluice writes")
    }

    // MARK: appending

    func append(_ batch: AppendBatch, to topic: String, limits: LogLimits) async throws -> Position {
      guard batch.lastNumber <= Self.maxNumber else { throw TopicError.refused("a writer's number is up to 2^53") }
      let memory = batch.writer.utf8.starts(with: "n-".utf8) ? Self.namedWriterMemory : Self.writerMemory
      let byteCount = batch.contents.reduce(0) { $0 + $1.byteCount }
      var arguments = [Bytes("\(batch.firstNumber)"), Bytes("\(batch.contents.count)"), Bytes("\(byteCount)")]
      arguments += Self.arguments(limits) + [Bytes("\(memory)")]
      arguments.reserveCapacity(arguments.count + 2 * batch.contents.count)
      for content in batch.contents {
        if let event = content.event { arguments += ["e", Bytes(event)] }
        arguments.append(content.kind == .text ? "t" : "b")
        arguments.append(content.bytes)
      }
      let writerKey = Bytes("\(options.prefix){\(topic)}:w:\(batch.writer)")
      let reply = try await run(RedisScripts.append, on: \.appends, topic, keys(topic) + [writerKey], arguments)
      guard let parts = reply.array, parts.count == 3, let offset = parts[2].number,
        LogState.numbers.contains(offset), offset >= batch.contents.count,
        let state = LogState(redisEpochs: parts[0], last: parts[1], earliest: nil)
      else { throw foreign(topic) }
      return state.position(of: offset)
    }

    // MARK: looking after logs

    func names() async throws -> [String] {
      let prefix = options.prefix + "{"
      // What SCAN's patterns mean otherwise.
      let pattern = prefix.reduce(into: "") { $0 += ("*?[]\\^".contains($1) ? "\\" : "") + String($1) } + "*}:log"
      var names: Set<String> = []
      for node in try await router.nodes() { names.formUnion(try await self.names(on: node, prefix, pattern)) }
      return Array(names)
    }

    private func names(on node: RedisNode, _ prefix: String, _ pattern: String) async throws -> Set<String> {
      var names: Set<String> = []
      var cursor = "0"
      repeat {
        let command = RedisCommand(["SCAN", Bytes(cursor), "MATCH", Bytes(pattern), "COUNT", "1000", "TYPE", "stream"])
        guard let parts = try await node.reads.send(command, "SCAN").array, parts.count == 2, let next = parts[0].text,
          let keys = parts[1].array
        else { throw TopicError.unavailable("SCAN: the answer is not understood") }
        for key in keys {
          guard let text = key.text else { continue }
          let name = String(decoding: text.utf8.dropFirst(prefix.utf8.count).dropLast(5), as: UTF8.self)
          if Topics.isName(name) { names.insert(name) }
        }
        cursor = next
      } while cursor != "0"
      return names
    }

    func size(of topic: String) async throws -> LogSize? {
      let keys = keys(topic)
      let entries = try await send(RedisCommand(["XLEN", keys[0]]), on: \.reads, topic).check("XLEN").number
      let meta = RedisCommand(["HMGET", keys[1], "count", "skip", "bytes"])
      let fields = try await send(meta, on: \.reads, topic).check("HMGET").array ?? []
      guard let entries, entries > 0, fields.count == 3, let count = fields[0].number, let skip = fields[1].number,
        let bytes = fields[2].number, count > skip
      else { return nil }
      return LogSize(count: Int(clamping: count - skip), byteCount: Int(clamping: bytes))
    }

    func trim(_ topic: String, to limits: LogLimits) async throws -> Int {
      let reply = try await run(RedisScripts.trim, on: \.appends, topic, keys(topic), Self.arguments(limits))
      guard let count = reply.number else { throw foreign(topic) }
      return Int(clamping: count)
    }

    private static func arguments(_ limits: LogLimits) -> [Bytes] {
      let age = limits.age.map { max($0.bounded.wholeMilliseconds, 0) } ?? -1
      return [
        Bytes("\(max(limits.count, 1))"), Bytes("\(limits.bytes.map { max($0, 0) } ?? -1)"), Bytes("\(age)"),
      ]
    }

    // MARK: sending

    /// Sends a command to the server that has the topic, wherever that is by now.
    private func send(
      on link: KeyPath<RedisNode, RedisLink> & Sendable, _ topic: String,
      _ command: (RedisServerInfo) -> RedisCommand
    ) async throws -> RedisReply {
      var (node, isAsking) = (try await router.node(for: topic), false)
      do {
        for _ in 0..<Self.maxRedirections {
          let connection = try await node[keyPath: link].connection()
          let reply = try await connection.send(
            command(connection.server), within: options.commandTimeout, asking: isAsking)
          guard let (next, asks) = router.redirection(reply, of: topic, from: node) else { return reply }
          (node, isAsking) = (next, asks)
        }
      } catch TopicError.unavailable(let reason) {
        router.forget()
        throw TopicError.unavailable(reason)
      }
      router.forget()
      throw TopicError.unavailable("the cluster sends topic \(topic) from one server to another")
    }

    private func send(
      _ command: RedisCommand, on link: KeyPath<RedisNode, RedisLink> & Sendable, _ topic: String
    ) async throws -> RedisReply {
      try await send(on: link, topic) { _ in command }
    }

    private func run(
      _ script: RedisScript, on link: KeyPath<RedisNode, RedisLink> & Sendable, _ topic: String, _ keys: [Bytes],
      _ arguments: [Bytes]
    ) async throws -> RedisReply {
      let (keyCount, fresh) = (Bytes("\(keys.count)"), Bytes(LogEpoch.newName()))
      for _ in 0..<3 {
        if let hash = script.hash.withLock({ $0 }) {
          let reply = try await send(on: link, topic) { server in
            RedisCommand(["EVALSHA", hash, keyCount] + keys + [Bytes(server.run), fresh] + arguments)
          }
          // Another server, or one that forgot.
          guard case .error(let text) = reply, text.utf8.starts(with: "NOSCRIPT".utf8) else {
            return try reply.check(script.name)
          }
        }
        let loaded = try await send(RedisCommand("SCRIPT", "LOAD", script.source), on: link, topic)
        guard let hash = try loaded.check("SCRIPT LOAD").bytes else {
          throw TopicError.refused("SCRIPT LOAD gave no hash")
        }
        script.hash.withLock { $0 = hash }
      }
      throw TopicError.unavailable("\(script.name): the server forgets scripts")
    }

    // MARK: following

    func follow(
      _ topic: String, after position: Position, _ deliver: @escaping @Sendable (Delivery) -> Void
    ) -> any Following {
      let isShared = !router.isClustered
      return followers.withLock { followers in
        let key = isShared ? "" : topic
        let follower = followers[key] ?? self.follower(of: isShared ? nil : topic)
        followers[key] = follower
        let following = follower.follow(
          topic, after: position,
          { [weak self] in
            guard let self else { throw TopicError.closed }
            return try await self.state(of: $0)
          }, deliver)
        return isShared
          ? following : RedisOwnFollowing(following: following) { [weak self] in self?.end(follower, of: topic) }
      }
    }

    /// - Parameter topic: nil: for all, of the one server.
    private func follower(of topic: String?) -> RedisFollower {
      RedisFollower(
        options,
        connect: { [router] in try await router.connect(for: topic ?? "") },
        commands: { [router] in try await router.node(for: topic ?? "").reads },
        didFail: { [router, observer] error in
          router.forget()
          observer?.didDisconnect(error)
        })
    }

    private func end(_ follower: RedisFollower, of topic: String) {
      let ended = followers.withLock { followers in
        guard followers[topic] === follower, follower.isIdle else { return false }
        followers[topic] = nil
        return true
      }
      if ended { follower.close() }
    }

    func close() async {
      for follower in followers.withLock({ $0.values.map { $0 } }) { follower.close() }
      router.close()
    }
  }

  /// Ends a connection of its own with it.
  private struct RedisOwnFollowing: Following {
    let following: any Following
    let end: @Sendable () -> Void

    func stop() {
      following.stop()
      end()
    }
  }

  extension RedisOptions {
    func logKey(_ topic: String) -> String { "\(prefix){\(topic)}:log" }
  }

  extension RedisReply {
    var number: UInt64? { text.flatMap { UInt64($0) } }
  }

  extension LogState {
    /// - Parameter redisEpochs: `NAME:FIRST:LAST …`, the last one without a last.
    init?(redisEpochs: RedisReply, last: RedisReply, earliest: RedisReply) {
      guard let text = earliest.text else { return nil }
      let offset = UInt64(text)
      guard text.isEmpty || offset != nil else { return nil }
      self.init(redisEpochs: redisEpochs, last: last, earliest: offset)
    }

    init?(redisEpochs: RedisReply, last: RedisReply, earliest: UInt64?) {
      guard let text = redisEpochs.text, let last = last.number else { return nil }
      var epochs: [LogEpoch] = []
      for part in text.split(separator: " ") {
        let fields = part.split(separator: ":")
        guard fields.count >= 2, let first = UInt64(fields[1]), first > 0 else { return nil }
        guard let end = fields.count == 2 ? last : UInt64(fields[2]), Position("\(fields[0]).\(end)") != nil else {
          return nil
        }
        epochs.append(LogEpoch(name: String(fields[0]), first: first, last: end))
      }
      self.init(epochs: epochs, earliest: earliest)
    }
  }

  /// A message of an entry of the stream.
  struct RedisMessage: Sendable {
    let offset: UInt64
    let content: TopicContent
    let time: Duration

    /// - Returns: nil for an entry that Sluice does not write.
    static func all(of reply: RedisReply) -> [RedisMessage]? {
      guard let parts = reply.array, parts.count == 2, let id = parts[0].text, let last = offset(id),
        let fields = parts[1].array, fields.count >= 4, fields.count % 2 == 0, fields[0].bytes == "h",
        let head = fields[1].text?.split(separator: " "), head.count == 3, let time = Int64(head[0]),
        let count = UInt64(head[1]), count > 0, count <= last, count <= fields.count / 2
      else { return nil }
      var messages: [RedisMessage] = []
      messages.reserveCapacity(Int(clamping: count))
      var event: String?
      for index in stride(from: 2, to: fields.count, by: 2) {
        guard let name = fields[index].bytes, let value = fields[index + 1].bytes else { return nil }
        switch name {
        case "e": event = value.string
        case "t", "b":
          let content = TopicContent(kind: name == "t" ? .text : .binary, bytes: value, event: event)
          let offset = last - count + 1 + UInt64(messages.count)
          messages.append(RedisMessage(offset: offset, content: content, time: .milliseconds(time)))
          event = nil
        default: return nil
        }
      }
      return UInt64(messages.count) == count ? messages : nil
    }

    /// Of an id `NUMBER-0`.
    static func offset(_ id: String) -> UInt64? {
      let parts = id.split(separator: "-", omittingEmptySubsequences: false)
      guard parts.count == 2, parts[1] == "0", let offset = UInt64(parts[0]), LogState.numbers.contains(offset)
      else { return nil }
      return offset
    }

    func message(at position: Position) -> TopicMessage {
      TopicMessage(position: position, content: content, time: time)
    }
  }
#endif
