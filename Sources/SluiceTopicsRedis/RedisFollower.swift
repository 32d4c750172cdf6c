#if Redis
  import SluiceStreams
  import SluiceTopics
  import Synchronization

  /// Waits for what is new in all topics that are followed, with one connection and one blocking XREAD after the other. Of a cluster, which does not
  /// answer for keys of several slots at once, each topic has one of its own.
  final class RedisFollower: Sendable {
    private struct Follow {
      let topic: String
      let key: Bytes
      /// Behind what was delivered.
      var position: Position
      let state: @Sendable (String) async throws -> LogState
      let deliver: @Sendable (Delivery) -> Void
    }
    private struct State {
      var follows: [Int: Follow] = [:]
      var next = 0
      var running: Task<Void, any Error>?
      /// Waits until there is something to follow.
      var change = SharedResult<Void>()
      /// The server's number of the connection that waits at the server, and must be woken when there is a topic more.
      var blocked: String?
      /// How often a topic was added, and how many of these the connection waits for.
      var added = 0
      var awaited = 0
      var isUnblocking = false
      var isClosed = false
    }
    private let state = Mutex(State())
    private let options: RedisOptions
    private let connect: @Sendable () async throws -> RedisConnection
    /// For what is to be said while the other connection waits.
    private let commands: @Sendable () async throws -> RedisLink
    private let didFail: @Sendable (any Error) -> Void

    /// Entries of one topic at a time.
    private static let maxCount = 64

    init(
      _ options: RedisOptions, connect: @escaping @Sendable () async throws -> RedisConnection,
      commands: @escaping @Sendable () async throws -> RedisLink, didFail: @escaping @Sendable (any Error) -> Void
    ) {
      self.options = options
      self.connect = connect
      self.commands = commands
      self.didFail = didFail
    }

    /// Whether nobody follows anything.
    var isIdle: Bool { state.withLock { $0.follows.isEmpty } }

    func follow(
      _ topic: String, after position: Position, _ logState: @escaping @Sendable (String) async throws -> LogState,
      _ deliver: @escaping @Sendable (Delivery) -> Void
    ) -> any Following {
      let number = state.withLock { state in
        state.next += 1
        state.added += 1
        state.follows[state.next] = Follow(
          topic: topic, key: Bytes(options.logKey(topic)), position: position, state: logState, deliver: deliver)
        if state.running == nil, !state.isClosed { state.running = startTask { try await self.run() } }
        return state.next
      }
      didChange()
      return RedisFollowing(follower: self, number: number)
    }

    fileprivate func stop(_ number: Int) {
      state.withLock { $0.follows[number] = nil }
      // What is still waited for costs nothing, and is dropped when it comes.
    }

    /// There is a topic more than the connection waits for.
    private func didChange() {
      let (change, mustUnblock) = state.withLock { state in
        let change = state.change
        state.change = SharedResult()
        let mustUnblock = state.blocked != nil && !state.isUnblocking
        if mustUnblock { state.isUnblocking = true }
        return (change, mustUnblock)
      }
      change.finish(.success(()))
      if mustUnblock { _ = startTask { try await self.unblock() } }
    }

    /// Ends the wait at the server, which may not have begun yet.
    private func unblock() async throws {
      while let blocked = blockedWithoutAll() {
        // Where that is not permitted, it ends by itself within `probeInterval`.
        let reply = try? await commands().send(RedisCommand("CLIENT", "UNBLOCK", blocked), "CLIENT UNBLOCK")
        try await pause(for: reply == nil ? options.probeInterval : .milliseconds(2))
      }
    }

    private func blockedWithoutAll() -> String? {
      state.withLock { state in
        if state.awaited < state.added, let blocked = state.blocked { return blocked }
        state.isUnblocking = false
        return nil
      }
    }

    private func run() async throws {
      var failures = 0
      while !Task.isCancelled {
        do {
          let connection = try await connect()
          failures = 0
          defer { connection.close() }
          try await follow(with: connection)
        } catch is CancellationError {
          throw CancellationError()
        } catch {
          if state.withLock({ $0.isClosed }) { return }
          didFail(error)
          failures += 1
          let longest = min(.milliseconds(50 << min(failures, 10)), options.maxDelay)
          try await pause(for: longest * Double.random(in: 0.2...1))
        }
      }
    }

    /// Until the connection is lost.
    private func follow(with connection: RedisConnection) async throws {
      let interval = options.probeInterval
      while !Task.isCancelled {
        let (follows, change) = state.withLock { state in
          state.blocked = state.follows.isEmpty ? nil : connection.server.connection
          state.awaited = state.added
          return (state.follows, state.change)
        }
        guard !follows.isEmpty else {
          try await change.value()
          continue
        }
        // Several may follow one topic, each from a place of its own.
        var places: [String: (key: Bytes, offset: UInt64)] = [:]
        for follow in follows.values {
          let offset = min(follow.position.offset, places[follow.topic]?.offset ?? .max)
          places[follow.topic] = (follow.key, offset)
        }
        let topics = Array(places.values)
        let command = RedisCommand(
          [
            "XREAD", "COUNT", Bytes("\(Self.maxCount)"), "BLOCK", Bytes("\(max(interval.wholeMilliseconds, 1))"),
            "STREAMS",
          ]
            + topics.map(\.key) + topics.map { Bytes("\($0.offset)-0") })
        let reply = try await connection.send(command, within: interval + options.commandTimeout)
        state.withLock { $0.blocked = nil }
        switch reply {
        case .null: continue
        case .error(let text) where text.utf8.starts(with: "UNBLOCKED".utf8): continue
        default: try await deliver(try reply.check("XREAD"))
        }
      }
    }

    private func deliver(_ reply: RedisReply) async throws {
      for stream in reply.array ?? [] {
        guard let parts = stream.array, parts.count == 2, let key = parts[0].bytes, let entries = parts[1].array else {
          throw TopicError.unavailable("XREAD: the answer is not understood")
        }
        let read = entries.flatMap { RedisMessage.all(of: $0) ?? [] }
        let follows = state.withLock { state in state.follows.filter { $0.value.key == key } }
        for (number, follow) in follows {
          let new = read.drop { $0.offset <= follow.position.offset }
          let position = try await deliver(new, to: follow)
          state.withLock { state in state.follows[number]?.position = position }
        }
      }
    }

    /// - Returns: where the newest stands.
    private func deliver(_ entries: ArraySlice<RedisMessage>, to follow: Follow) async throws -> Position {
      var position = follow.position
      var rest = entries
      while let first = rest.first {
        var behind = position.offset
        if first.offset != position.offset + 1 {
          // A new epoch, or a loss. What was asked for after the entries came knows of them.
          let log = try await follow.state(follow.topic)
          let isNext = (try? log.successor(of: position)) == first.offset
          if !isNext { behind = first.offset - 1 }
          position = Position(epoch: log.position(of: first.offset).epoch, offset: first.offset - 1)
        }
        // Within an epoch, numbers have no gaps, and there is one before each.
        var messages: [TopicMessage] = []
        while let entry = rest.first, entry.offset == position.offset + 1 {
          position = Position(epoch: position.epoch, offset: entry.offset)
          messages.append(entry.message(at: position))
          rest.removeFirst()
        }
        follow.deliver(Delivery(messages, behind: behind))
      }
      return position
    }

    func close() {
      let (running, change) = state.withLock { state in
        state.isClosed = true
        state.follows = [:]
        return (state.running, state.change)
      }
      running?.cancel()
      change.finish(.success(()))
    }
  }

  private struct RedisFollowing: Following {
    let follower: RedisFollower
    let number: Int

    func stop() { follower.stop(number) }
  }
#endif
