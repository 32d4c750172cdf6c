#if Redis
  import SluiceStreams
  import SluiceTopics
  import Synchronization

  /// Logs as streams of a Redis server.
  ///
  /// Three connections at the most: one for appends, one for reads of logs, and one that waits for what is new in all topics that somebody reads.
  final class RedisTopicEngine: TopicEngine {
    private let server: RedisServer
    private let appends: RedisLink
    private let reads: RedisLink
    private let follower: RedisFollower

    /// Writers that name themselves are remembered for a day; those of a process as long as an append may be repeated, and more.
    private static let (namedWriterMemory, writerMemory) = (86_400, 3_600)
    /// Numbers are Lua's at the server.
    private static let maxNumber: UInt64 = 1 << 53

    init(_ server: RedisServer, _ observer: (any TopicObserver)?) {
      self.server = server
      appends = RedisLink(server, observer)
      reads = RedisLink(server, observer)
      follower = RedisFollower(server, reads, observer)
    }

    /// Whether the server is there, and permits what is needed.
    func check() async throws { _ = try await state(of: "sluice:check") }

    private func keys(_ topic: String) -> [Bytes] {
      [Bytes(server.options.logKey(topic)), Bytes("\(server.options.prefix){\(topic)}:meta")]
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
      let reply = try await run(RedisScripts.read, on: reads, keys(topic), arguments)
      guard let parts = reply.array, parts.count == 4,
        let state = LogState(redisEpochs: parts[0], last: parts[1], earliest: parts[2]), let entries = parts[3].array
      else { throw TopicError.refused("the data of topic \(topic) is not what Sluice writes") }
      return LogSlice(try entries.map { try message($0, in: state) }, state)
    }

    private func message(_ reply: RedisReply, in state: LogState) throws -> TopicMessage {
      guard let entry = RedisEntry(reply) else {
        throw TopicError.refused("an entry of a topic is not what Sluice writes")
      }
      return entry.message(at: state.position(of: entry.offset))
    }

    // MARK: appending

    func append(_ batch: AppendBatch, to topic: String, limits: LogLimits) async throws -> Position {
      guard batch.lastNumber <= Self.maxNumber else { throw TopicError.refused("a writer's number is up to 2^53") }
      let memory = batch.writer.utf8.starts(with: "n-".utf8) ? Self.namedWriterMemory : Self.writerMemory
      var arguments = [Bytes("\(batch.firstNumber)"), Bytes("\(batch.contents.count)")]
      arguments += Self.arguments(limits) + [Bytes("\(memory)")]
      arguments.reserveCapacity(arguments.count + 3 * batch.contents.count)
      for content in batch.contents {
        arguments.append(content.kind == .text ? "t" : "b")
        arguments.append(Bytes(content.event ?? ""))
        arguments.append(content.bytes)
      }
      let writerKey = Bytes("\(server.options.prefix){\(topic)}:w:\(batch.writer)")
      let reply = try await run(RedisScripts.append, on: appends, keys(topic) + [writerKey], arguments)
      guard let parts = reply.array, parts.count == 3, let offset = parts[2].number,
        LogState.numbers.contains(offset), offset >= batch.contents.count,
        let state = LogState(redisEpochs: parts[0], last: parts[1], earliest: nil)
      else { throw TopicError.refused("the data of topic \(topic) is not what Sluice writes") }
      return state.position(of: offset)
    }

    // MARK: looking after logs

    func names() async throws -> [String] {
      let prefix = server.options.prefix + "{"
      // What SCAN's patterns mean otherwise.
      let pattern = prefix.reduce(into: "") { $0 += ("*?[]\\^".contains($1) ? "\\" : "") + String($1) } + "*}:log"
      var names: Set<String> = []
      var cursor = "0"
      repeat {
        let command = RedisCommand(["SCAN", Bytes(cursor), "MATCH", Bytes(pattern), "COUNT", "1000", "TYPE", "stream"])
        guard let parts = try await reads.send(command, "SCAN").array, parts.count == 2, let next = parts[0].text,
          let keys = parts[1].array
        else { throw TopicError.unavailable("SCAN: the answer is not understood") }
        for key in keys {
          guard let text = key.text else { continue }
          let name = String(decoding: text.utf8.dropFirst(prefix.utf8.count).dropLast(5), as: UTF8.self)
          if Topics.isName(name) { names.insert(name) }
        }
        cursor = next
      } while cursor != "0"
      return Array(names)
    }

    func size(of topic: String) async throws -> LogSize? {
      let keys = keys(topic)
      let count = try await reads.send(RedisCommand(["XLEN", keys[0]]), "XLEN").number
      let bytes = try await reads.send(RedisCommand(["HGET", keys[1], "bytes"]), "HGET").number
      guard let count, count > 0 else { return nil }
      return LogSize(count: Int(clamping: count), byteCount: Int(clamping: bytes ?? 0))
    }

    func trim(_ topic: String, to limits: LogLimits) async throws -> Int {
      let reply = try await run(RedisScripts.trim, on: appends, keys(topic), Self.arguments(limits))
      guard let count = reply.number else {
        throw TopicError.refused("the data of topic \(topic) is not what Sluice writes")
      }
      return Int(clamping: count)
    }

    private static func arguments(_ limits: LogLimits) -> [Bytes] {
      let age = limits.age.map { max($0.bounded.wholeMilliseconds, 0) } ?? -1
      return [
        Bytes("\(max(limits.count, 1))"), Bytes("\(limits.bytes.map { max($0, 0) } ?? -1)"), Bytes("\(age)"),
      ]
    }

    private func run(
      _ script: RedisScript, on link: RedisLink, _ keys: [Bytes], _ arguments: [Bytes]
    ) async throws -> RedisReply {
      let connection = try await link.connection()
      let rest =
        [Bytes("\(keys.count)")] + keys + [Bytes(connection.server.run), Bytes(LogEpoch.newName())] + arguments
      let limit = server.options.commandTimeout
      let hash = script.hash.withLock { $0 }
      if let hash {
        let reply = try await connection.send(RedisCommand(["EVALSHA", hash] + rest), within: limit)
        // Another server, or one that forgot.
        guard case .error(let text) = reply, text.utf8.starts(with: "NOSCRIPT".utf8) else {
          return try reply.check(script.name)
        }
      }
      let loaded = try await connection.send(RedisCommand("SCRIPT", "LOAD", script.source), within: limit)
      guard let hash = try loaded.check("SCRIPT LOAD").bytes else {
        throw TopicError.refused("SCRIPT LOAD gave no hash")
      }
      script.hash.withLock { $0 = hash }
      return try await connection.send(RedisCommand(["EVALSHA", hash] + rest), within: limit).check(script.name)
    }

    // MARK: following

    func follow(
      _ topic: String, after position: Position, _ deliver: @escaping @Sendable (Delivery) -> Void
    ) -> any Following {
      follower.follow(
        topic, after: position,
        { [weak self] in
          guard let self else { throw TopicError.closed }
          return try await self.state(of: $0)
        }, deliver)
    }

    func close() async {
      follower.close()
      appends.close()
      reads.close()
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
      let offset = RedisEntry.offset(text)
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

  /// An entry of the stream.
  struct RedisEntry: Sendable {
    let offset: UInt64
    let content: TopicContent
    let time: Duration

    init?(_ reply: RedisReply) {
      guard let parts = reply.array, parts.count == 2, let id = parts[0].text, let offset = Self.offset(id),
        let fields = parts[1].array, fields.count % 2 == 0
      else { return nil }
      self.offset = offset
      var (kind, event, data, time) = (TopicContent.Kind.text, String?.none, Bytes?.none, Int64(0))
      for index in stride(from: 0, to: fields.count, by: 2) {
        guard let name = fields[index].bytes, let value = fields[index + 1].bytes else { return nil }
        switch name {
        case "k": kind = value == "b" ? .binary : .text
        case "t": time = Int64(value.string) ?? 0
        case "d": data = value
        case "e": event = value.string
        default: break
        }
      }
      guard let data else { return nil }
      content = TopicContent(kind: kind, bytes: data, event: event)
      self.time = .milliseconds(time)
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
