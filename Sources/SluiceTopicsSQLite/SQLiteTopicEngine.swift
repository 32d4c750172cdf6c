#if SQLite
  import SluiceStreams
  import SluiceTopics
  import Synchronization

  /// Logs in a file. One thread appends, with one commit for all that has come meanwhile; another one reads.
  final class SQLiteTopicEngine: TopicEngine {
    private struct Append: Sendable {
      let batch: AppendBatch
      let topic: String
      let limits: LogLimits
      let done: @Sendable (Result<Position, any Error>) -> Void
    }
    private struct Follow {
      let topic: String
      var position: Position
      let deliver: @Sendable (Delivery) -> Void
    }
    private struct State {
      var appends: [Append] = []
      var follows: [Int: Follow] = [:]
      var next = 0
      var isPolling = false
      var isClosed = false
    }
    private let state = Mutex(State())
    private let writing: SQLiteThread
    private let reading: SQLiteThread
    private let writer: SQLiteWriter
    private let options: SQLiteOptions
    private let observer: (any TopicObserver)?
    /// Of the file that the reading thread has open.
    private struct Version: Equatable {
      let connection: Int
      let number: Int64
    }
    private let seenVersion = Mutex<Version?>(nil)
    /// Before all messages of a topic: where those stand who read what nobody had appended to, and may not change the file.
    private let unwritten = LogEpoch(name: LogEpoch.newName(), first: 1, last: 0)

    /// Messages, and bytes, of one topic that are read at a time.
    private static let (maxCount, maxBytes) = (512, 1 << 20)

    init(_ path: String, _ options: SQLiteOptions, _ observer: (any TopicObserver)?) {
      self.options = options
      self.observer = observer
      writing = SQLiteThread("sluice.topics.append") { try SQLiteLogs(path, options) }
      reading = SQLiteThread("sluice.topics.read") { try SQLiteLogs(path, options) }
      writer = SQLiteWriter(path, options.lockTimeout)
    }

    /// Whether the file is one of topics, or can be made one.
    func check() async throws {
      let thread = options.access == .readOnly ? reading : writing
      try await thread.run { _ = try thread.connection() }
    }

    // MARK: reading

    func state(of topic: String) async throws -> LogState {
      try await read(topic, after: 0, maxCount: 0, maxBytes: 0).state
    }

    func read(_ topic: String, after offset: UInt64, maxCount: Int, maxBytes: Int) async throws -> LogSlice {
      let slice = try await reading.run { [reading] in
        try reading.connection().read(topic, after: offset, maxCount: maxCount, maxBytes: maxBytes)
      }
      if let slice { return known(slice) }
      guard options.access == .readWrite else { return LogSlice([], LogState(epoch: unwritten, earliest: nil)) }
      let state = try await writing.run { [writing, writer] in
        let logs = try writing.connection()
        return try logs.create(topic, life: writer.life(logs))
      }
      return LogSlice([], state)
    }

    /// The slice with what the positions of this process mean.
    private func known(_ slice: LogSlice) -> LogSlice {
      guard options.access == .readOnly,
        let state = LogState(epochs: [unwritten] + slice.state.epochs, earliest: slice.state.earliest)
      else { return slice }
      return LogSlice(slice.messages, state)
    }

    // MARK: appending

    func append(_ batch: AppendBatch, to topic: String, limits: LogLimits) async throws -> Position {
      guard options.access == .readWrite else { throw TopicError.refused("the file was opened for reading only") }
      return try await withCheckedThrowingContinuation { next in
        let isFirst = state.withLock { state in
          state.appends.append(Append(batch: batch, topic: topic, limits: limits) { next.resume(with: $0) })
          return state.appends.count == 1
        }
        if isFirst { writing.perform { self.appendWaiting() } }
      }
    }

    /// On the writing thread.
    private func appendWaiting() {
      let group = state.withLock { state in
        defer { state.appends = [] }
        return state.appends
      }
      var results = store(group)
      let isRefused = results.contains { if case .failure(TopicError.refused) = $0 { true } else { false } }
      if group.count > 1, isRefused {
        // One that is refused takes no other with it.
        results = group.flatMap { store([$0]) }
      }
      // Whoever has appended finds it with the readers here, and the next group is stored meanwhile.
      let outcomes = results
      reading.perform {
        self.deliver(to: Set(group.map(\.topic)))
        for (append, outcome) in zip(group, outcomes) { append.done(outcome) }
      }
    }

    /// All of them, or none.
    private func store(_ group: [Append]) -> [Result<Position, any Error>] {
      do {
        let logs = try writing.connection()
        let life = try writer.life(logs)
        let positions = try logs.database.transaction("BEGIN IMMEDIATE") {
          try group.map { try logs.append($0.batch, to: $0.topic, limits: $0.limits, life: life) }
        }
        // What was stored in a file that is gone is not stored.
        if logs.database.hasMoved { throw TopicError.unavailable("the file was replaced") }
        return positions.map { .success($0) }
      } catch {
        return group.map { _ in .failure(error) }
      }
    }

    // MARK: looking after logs

    func names() async throws -> [String] {
      try await reading.run { [reading] in try reading.connection().names() }
    }

    func size(of topic: String) async throws -> LogSize? {
      try await reading.run { [reading] in try reading.connection().size(of: topic) }
    }

    func trim(_ topic: String, to limits: LogLimits) async throws -> Int {
      guard options.access == .readWrite else { throw TopicError.refused("the file was opened for reading only") }
      return try await writing.run { [writing] in try writing.connection().trim(topic, to: limits) }
    }

    // MARK: following

    func follow(
      _ topic: String, after position: Position, _ deliver: @escaping @Sendable (Delivery) -> Void
    ) -> any Following {
      let (number, mustPoll) = state.withLock { state in
        state.next += 1
        state.follows[state.next] = Follow(topic: topic, position: position, deliver: deliver)
        defer { state.isPolling = true }
        return (state.next, !state.isPolling)
      }
      reading.perform { self.deliver(to: [topic]) }
      if mustPoll { reading.perform { [weak self] in self?.poll() } }
      return SQLiteFollowing(engine: self, number: number)
    }

    fileprivate func stop(_ number: Int) { state.withLock { $0.follows[number] = nil } }

    /// On the reading thread: what other processes have appended.
    private func poll() {
      let goesOn = state.withLock { state in
        state.isPolling = !state.follows.isEmpty && !state.isClosed
        return state.isPolling
      }
      guard goesOn else { return }
      do {
        let number = try reading.connection().dataVersion()
        let version = Version(connection: reading.connectionCount, number: number)
        let isNew = seenVersion.withLock { seen in
          defer { seen = version }
          return seen != version
        }
        if isNew { deliver(to: nil) }
      } catch {
        seenVersion.withLock { $0 = nil }
        observer?.didDisconnect(error)
      }
      let interval = max(options.pollInterval.bounded, .milliseconds(1))
      reading.perform(after: interval) { [weak self] in self?.poll() }
    }

    /// On the reading thread.
    /// - Parameter topics: nil: all that are followed.
    private func deliver(to topics: Set<String>?) {
      let follows = state.withLock { state in
        state.follows.filter { topics?.contains($0.value.topic) ?? true }
      }
      for (number, follow) in follows {
        do { try deliver(to: follow, number) } catch {
          // The next poll tries again.
          seenVersion.withLock { $0 = nil }
          if case TopicError.closed = error { return }
          observer?.didDisconnect(error)
        }
      }
    }

    private func deliver(to follow: Follow, _ number: Int) throws {
      var position = follow.position
      while true {
        let found = try reading.connection().read(
          follow.topic, after: position.offset, maxCount: Self.maxCount, maxBytes: Self.maxBytes)
        guard let slice = found.map(known), !slice.messages.isEmpty else { return }
        var rest = slice.messages[...]
        while let first = rest.first {
          // Between epochs there is a gap; where it is another one, something was lost.
          let isNext = (try? slice.state.successor(of: position)) == first.position.offset
          let behind = isNext ? position.offset : first.position.offset - 1
          var messages: [TopicMessage] = []
          var next = first.position.offset
          while let message = rest.first,
            message.position == Position(epoch: first.position.epoch, offset: next)
          {
            messages.append(message)
            position = message.position
            next += 1
            rest.removeFirst()
          }
          let isWanted = state.withLock { state in
            state.follows[number]?.position = position
            return state.follows[number] != nil
          }
          guard isWanted else { return }
          follow.deliver(Delivery(messages, behind: behind))
        }
      }
    }

    func close() async {
      state.withLock { state in
        state.isClosed = true
        state.follows = [:]
      }
      await writing.run { [writer] in writer.close() }
      await writing.close()
      await reading.close()
    }
  }

  extension SQLiteThread {
    fileprivate func run(_ body: @escaping @Sendable () -> Void) async {
      await withCheckedContinuation { next in
        perform {
          body()
          next.resume()
        }
      }
    }
  }

  /// What the writing thread knows of the file that it has open.
  private final class SQLiteWriter: @unchecked Sendable {  // touched on that thread only
    private let path: String
    private let lockTimeout: Duration
    private var current: (logs: SQLiteLogs, life: SQLiteLife)?

    init(_ path: String, _ lockTimeout: Duration) {
      self.path = path
      self.lockTimeout = lockTimeout
    }

    func life(_ logs: SQLiteLogs) throws -> String {
      if let current, current.logs === logs { return current.life.name }
      current = nil
      let life = try SQLiteLife(path, logs, lockTimeout: lockTimeout)
      current = (logs, life)
      return life.name
    }

    func close() { current = nil }
  }

  private struct SQLiteFollowing: Following {
    let engine: SQLiteTopicEngine
    let number: Int

    func stop() { engine.stop(number) }
  }
#endif
