#if NATS
  import DequeModule
  import SluiceStreams
  import SluiceTopics
  import Synchronization

  /// Delivers what is new in the topics that are followed, by one connection: JetStream says again what it has stored. That can get lost on the way between servers, or
  /// with a connection, so each record says what it follows, and it is looked for what has not come.
  final class NATSFollower: Sendable {
    private struct State {
      var follows: [Int: NATSFollow] = [:]
      var next = 0
      var connection = SharedResult<NATSConnection>()
      var running: [Task<Void, any Error>] = []
      var isClosed = false
    }
    private let state = Mutex(State())
    private let link: NATSLink
    private let observer: (any TopicObserver)?
    private var options: NATSOptions { link.server.options }

    init(_ server: NATSServer, _ observer: (any TopicObserver)?) {
      link = NATSLink(server, observer)
      self.observer = observer
    }

    func follow(
      _ topic: String, _ log: NATSLog, after position: Position, _ deliver: @escaping @Sendable (Delivery) -> Void
    ) -> any Following {
      let follow = NATSFollow(topic, log, after: position, deliver)
      let number = state.withLock { state in
        state.next += 1
        guard !state.isClosed else { return state.next }
        state.follows[state.next] = follow
        if state.running.isEmpty {
          state.running = [startTask { try await self.connect() }, startTask { try await self.probe() }]
        }
        let number = state.next
        follow.begin { [weak self] in try await self?.run(follow) }
        return number
      }
      return NATSFollowing(follower: self, number: number)
    }

    fileprivate func stop(_ number: Int) { state.withLock { $0.follows.removeValue(forKey: number) }?.stop() }

    /// Has a connection, and after its end another one.
    private func connect() async throws {
      var failures = 0
      while !Task.isCancelled {
        do {
          let connection = try await link.connection()
          failures = 0
          state.withLock { $0.connection }.finish(.success(connection))
          defer { state.withLock { $0.connection = SharedResult() } }
          try await connection.end.value()
        } catch {
          if Task.isCancelled || state.withLock({ $0.isClosed }) { return }
          observer?.didDisconnect(error)
        }
        for follow in state.withLock({ Array($0.follows.values) }) { follow.mailbox.wake() }
        failures += 1
        let longest = min(.milliseconds(50 << min(failures, 10)), options.maxDelay)
        try await pause(for: longest * Double.random(in: 0.2...1))
      }
    }

    private func probe() async throws {
      while !Task.isCancelled {
        try await pause(for: max(options.probeInterval, .milliseconds(10)) * Double.random(in: 0.8...1))
        for follow in state.withLock({ Array($0.follows.values) }) { follow.mailbox.wake() }
      }
    }

    /// One topic, until it is stopped.
    private func run(_ follow: NATSFollow) async throws {
      var failures = 0
      while !Task.isCancelled {
        let connection = try await state.withLock { $0.connection }.value()
        let subject = link.server.names.live(follow.topic)
        let mailbox = follow.mailbox
        let observer = observer
        let listener = connection.listen(to: subject) { message in
          guard message.status == NATSMessage.denied else { return mailbox.put(message) }
          // What is new is found all the same, every `probeInterval`.
          observer?.didDisconnect(TopicError.refused(message.bytes.string))
        }
        defer { connection.silence(listener, on: subject) }
        do {
          // Interest spreads in a cluster: what was stored meanwhile may not be said to us.
          var probes = [Duration.milliseconds(20), .milliseconds(200), .seconds(1)]
          try await follow.catchUp(by: connection)
          while connection.isOpen {
            if let delay = probes.first, link.server.hosts.count > 1 || link.server.options.replicas > 1 {
              probes.removeFirst()
              try await pause(for: delay)
              try await follow.catchUp(by: connection)
            }
            try await follow.next(by: connection)
            failures = 0
          }
        } catch is CancellationError {
          throw CancellationError()
        } catch {
          if Task.isCancelled || state.withLock({ $0.isClosed }) { return }
          observer?.didDisconnect(error)
        }
        failures += 1
        let longest = min(.milliseconds(50 << min(failures, 10)), options.maxDelay)
        try await pause(for: longest * Double.random(in: 0.2...1))
      }
    }

    func close() {
      let (follows, running) = state.withLock { state in
        state.isClosed = true
        defer {
          state.follows = [:]
          state.running = []
        }
        return (Array(state.follows.values), state.running)
      }
      for task in running { task.cancel() }
      for follow in follows { follow.stop() }
      link.close()
    }
  }

  private struct NATSFollowing: Following {
    let follower: NATSFollower
    let number: Int

    func stop() { follower.stop(number) }
  }

  /// One topic that is followed. What delivers is one task.
  private final class NATSFollow: Sendable {
    let topic: String
    let mailbox = NATSMailbox()
    private let log: NATSLog
    private let deliver: @Sendable (Delivery) -> Void
    /// Behind what was delivered.
    private let position: Mutex<Position>
    private let task = Mutex<Task<Void, any Error>?>(nil)

    /// Of a log, at a time.
    private static let (maxCount, maxBytes) = (512, 1 << 20)

    init(_ topic: String, _ log: NATSLog, after position: Position, _ deliver: @escaping @Sendable (Delivery) -> Void) {
      self.topic = topic
      self.log = log
      self.deliver = deliver
      self.position = Mutex(position)
    }

    func begin(_ body: @escaping @Sendable () async throws -> Void) { task.withLock { $0 = startTask(body) } }

    func stop() { task.withLock { $0 }?.cancel() }

    /// What the log has behind what was delivered.
    func catchUp(by connection: NATSConnection) async throws {
      while true {
        let offset = position.withLock { $0.offset }
        var slice = try await log.read(after: offset, maxCount: Self.maxCount, maxBytes: Self.maxBytes, by: connection)
        if !isKnown(in: slice.state) {
          // Another log, whose numbers say nothing about the old one's.
          slice = try await log.read(after: 0, maxCount: Self.maxCount, maxBytes: Self.maxBytes, by: connection)
        }
        if slice.messages.isEmpty { return }
        deliver(slice.messages, slice.state)
      }
    }

    private func isKnown(in log: LogState) -> Bool {
      let position = position.withLock { $0 }
      return log.epochs.contains { $0.name == position.epoch && position.offset <= $0.last }
    }

    private func deliver(_ messages: [TopicMessage], _ log: LogState) {
      var rest = messages[...]
      while let first = rest.first, !Task.isCancelled {
        var position = position.withLock { $0 }
        // Between epochs there is a gap; where it is another one, something was lost.
        let isNext = (try? log.successor(of: position)) == first.position.offset
        let behind = isNext ? position.offset : first.position.offset - 1
        var part: [TopicMessage] = []
        var next = first.position
        while let message = rest.first, message.position == next {
          part.append(message)
          position = message.position
          next = Position(epoch: next.epoch, offset: next.offset + 1)
          rest.removeFirst()
        }
        let reached = position
        self.position.withLock { $0 = reached }
        deliver(Delivery(part, behind: behind))
      }
    }

    /// Waits for what comes, or for a time to look for what has not.
    func next(by connection: NATSConnection) async throws {
      guard let records = try await mailbox.take() else {
        if connection.isOpen { try await catchUp(by: connection) }
        return
      }
      for bytes in records {
        guard let record = NATSRecord(bytes, withContents: true), let log = record.state else { continue }
        guard isKnown(in: log) else {
          deliver(record.messages(after: 0, in: log), log)
          continue
        }
        let offset = position.withLock { $0.offset }
        let new = record.messages(after: offset, in: log)
        guard let first = new.first else { continue }
        let isNext = (try? log.successor(of: position.withLock { $0 })) == first.position.offset
        if isNext { deliver(new, log) } else { try await catchUp(by: connection) }
      }
    }
  }

  /// Records that have come and were not delivered yet.
  private final class NATSMailbox: Sendable {
    private struct State {
      var records: [Bytes] = []
      var byteCount = 0
      var isWoken = false
      var waiter: SharedResult<Void>?
    }
    private let state = Mutex(State())
    /// What is beyond is read from the log.
    private static let maxBytes = 4 << 20

    func put(_ message: NATSMessage) {
      change { state in
        state.byteCount += message.bytes.count + 64
        if state.byteCount <= Self.maxBytes {
          state.records.append(message.bytes)
        } else {
          state.records = []
          state.byteCount = 0
          state.isWoken = true
        }
      }
    }

    /// Has the log be looked at.
    func wake() { change { $0.isWoken = true } }

    private func change(_ body: (inout State) -> Void) {
      let waiter = state.withLock { state in
        body(&state)
        defer { state.waiter = nil }
        return state.waiter
      }
      waiter?.finish(.success(()))
    }

    /// - Returns: what has come; nil if the log is to be looked at.
    func take() async throws -> [Bytes]? {
      while true {
        let waiter = SharedResult<Void>()
        let taken = state.withLock { state -> (records: [Bytes]?, isDone: Bool) in
          if !state.records.isEmpty {
            defer {
              state.records = []
              state.byteCount = 0
            }
            return (state.records, true)
          }
          if state.isWoken {
            state.isWoken = false
            return (nil, true)
          }
          state.waiter = waiter
          return (nil, false)
        }
        if taken.isDone { return taken.records }
        try await waiter.value()
      }
    }
  }
#endif
