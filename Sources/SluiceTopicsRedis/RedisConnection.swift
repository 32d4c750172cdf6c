#if Redis
  import DequeModule
  import SluiceStreams
  import SluiceTopics

  /// One connection: commands in, replies out, in order, as many under way as are asked for.
  final class RedisConnection: SingleWaker, @unchecked Sendable {  // touched on its loop only, but for what is `let`
    private let stream: any PolledDuplexStream<Bytes, Bytes>
    private let loop: any Loop
    private let reader: RedisReplyReader
    private var waiting = Deque<(reply: SharedResult<RedisReply>, deadline: Duration)>()
    private var failure: (any Error)?
    private var timer: LoopTimer?
    /// What the server said of itself.
    private(set) var server = RedisServerInfo()

    private init(_ stream: any PolledDuplexStream<Bytes, Bytes>, _ reader: RedisReplyReader) {
      self.stream = stream
      self.reader = reader
      loop = stream.loop
    }

    /// Takes over a stream to a server.
    /// - Throws: `TopicError.refused` if the server is not one to be used; `.unavailable`.
    static func open(
      over stream: any PolledDuplexStream<Bytes, Bytes>, _ options: RedisOptions
    ) async throws -> RedisConnection {
      guard let reader = RedisReplyReader() else { throw TopicError.unavailable("out of memory") }
      let connection = RedisConnection(stream, reader)
      do {
        try await connection.loop.run {
          try stream.attachReader(connection)
          connection.wake()
        }
        try await connection.greet(options)
      } catch {
        connection.close()
        throw error
      }
      return connection
    }

    private func greet(_ options: RedisOptions) async throws {
      let limit = options.commandTimeout
      if let password = options.password {
        let command = options.username.map { RedisCommand("AUTH", $0, password) } ?? RedisCommand("AUTH", password)
        try await send(command, within: limit).check("AUTH")
      }
      if options.database != 0 {
        try await send(RedisCommand("SELECT", String(options.database)), within: limit).check("SELECT")
      }
      let info = try await send(RedisCommand("INFO", "server"), within: limit).check("INFO server")
      let id = try await send(RedisCommand("CLIENT", "ID"), within: limit).check("CLIENT ID")
      let server = try RedisServerInfo(info.text ?? "", connection: id.text ?? "")
      try await loop.run { self.server = server }
    }

    /// - Parameter asking: The key is on its way to this server of a cluster: an answer of its own says that we know.
    /// - Throws: `TopicError.unavailable` when the connection is lost, or the answer does not come in time: then it may have been carried out.
    func send(_ command: RedisCommand, within limit: Duration, asking: Bool = false) async throws -> RedisReply {
      let reply = SharedResult<RedisReply>()
      loop.perform {
        if let failure = self.failure { return reply.finish(.failure(failure)) }
        let deadline = self.loop.now + limit
        if asking {
          self.waiting.append((SharedResult(), deadline))
          do { try self.stream.push(RedisCommand("ASKING").encoded) } catch { self.fail(error) }
        }
        self.waiting.append((reply, deadline))
        self.watchTime()
        do { try self.stream.push(command.encoded) } catch { self.fail(error) }
      }
      return try await reply.value()
    }

    var isOpen: Bool {
      get async {
        await withCheckedContinuation { next in loop.perform { next.resume(returning: self.failure == nil) } }
      }
    }

    // MARK: on the loop

    func wake() {
      do {
        while failure == nil {
          switch try stream.poll() {
          case .element(let bytes):
            for reply in try reader.consume(bytes) {
              guard let next = waiting.popFirst() else { throw RedisProtocolError.malformed }
              next.reply.finish(.success(reply))
            }
          case .pending: return watchTime()
          case .end: throw TopicError.unavailable("the server has closed the connection")
          }
        }
      } catch {
        fail(error)
      }
    }

    /// The oldest command is waited for within its time: the others are behind it.
    private func watchTime() {
      guard let deadline = waiting.first?.deadline else {
        if let timer { loop.cancelTimer(timer) }
        timer = nil
        return
      }
      if timer != nil { return }
      timer = loop.schedule(after: max(deadline - loop.now, .zero)) { [weak self] in
        guard let self else { return }
        self.timer = nil
        guard let oldest = self.waiting.first else { return }
        if oldest.deadline <= self.loop.now {
          self.fail(TopicError.unavailable("no answer within the time limit"))
        } else {
          self.watchTime()
        }
      }
    }

    private func fail(_ error: any Error) {
      guard failure == nil else { return }
      let failure = error as? TopicError ?? TopicError.unavailable("\(error)")
      self.failure = failure
      if let timer { loop.cancelTimer(timer) }
      timer = nil
      stream.detachReader()
      stream.abort(failure)
      let waiting = waiting
      self.waiting = []
      for command in waiting { command.reply.finish(.failure(failure)) }
    }

    func close() { loop.perform { self.fail(TopicError.closed) } }
  }

  extension RedisReply {
    /// - Throws: what an error of the server's means.
    @discardableResult
    func check(_ command: String) throws -> RedisReply {
      guard case .error(let text) = self else { return self }
      let code = text.prefix { $0 != " " }
      switch code {
      case "LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "UNBLOCKED", "NOREPLICAS":
        throw TopicError.unavailable("\(command): \(text)")
      // Asked again, it goes to where the key is then.
      case "MOVED", "ASK": throw TopicError.unavailable("\(command): \(text)")
      default: throw TopicError.refused("\(command): \(text)")
      }
    }
  }

  /// A server, as it describes itself.
  struct RedisServerInfo: Sendable {
    /// Of this life of its process: another one may have lost what the last had.
    var run = ""
    /// The server's number of the connection.
    var connection = ""
    /// Whether it is one of a cluster.
    var isClustered = false

    init() {}

    init(_ info: String, connection: String) throws {
      var fields: [Substring: Substring] = [:]
      for line in info.split(whereSeparator: \.isNewline) {
        let parts = line.split(separator: ":", maxSplits: 1)
        if parts.count == 2 { fields[parts[0]] = parts[1] }
      }
      guard let run = fields["run_id"], run.utf8.count == 40 else {
        throw TopicError.refused("INFO server: the server does not say its run_id")
      }
      let version = (fields["redis_version"] ?? "").split(separator: ".").map { Int($0) ?? 0 }
      guard version.count >= 2, version[0] > 6 || version[0] == 6 && version[1] >= 2 else {
        throw TopicError.refused("Redis 6.2 or later is needed, and this is \(fields["redis_version"] ?? "unknown")")
      }
      isClustered = fields["redis_mode"] == "cluster"
      self.run = String(run)
      self.connection = connection
    }
  }
#endif
