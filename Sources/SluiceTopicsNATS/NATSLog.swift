#if NATS
  import SluiceStreams
  import SluiceTopics
  import Synchronization

  /// One topic's log: a stream of records, of which each follows the one before it.
  final class NATSLog: Sendable {
    /// The newest record.
    struct Tail: Sendable {
      let sequence: UInt64
      let record: NATSRecord
    }
    /// What was sent, and not answered: if it is stored, it is there.
    private struct Doubt {
      let firstNumber: UInt64
      let sequence: UInt64
    }
    private struct State {
      /// As it was when this process appended last, by the connection that it did so.
      var tail: (tail: Tail, connection: ObjectIdentifier)?
      var doubts: [String: Doubt] = [:]
      /// Numbers of records' first messages, and where these records are: begun from by who looks for a number.
      var places: [(offset: UInt64, sequence: UInt64)] = []
    }
    private let state = Mutex(State())
    /// Who appends: of this process, one at a time.
    private let line = WaitingLine(1)
    private let purge: NATSPurge
    private let topic: String
    private let server: NATSServer
    private var names: NATSNames { server.names }

    private static let maxEpochs = 64
    /// Writers that name themselves: so many are remembered, for a day.
    private static let (maxWriters, writerMemory) = (256, UInt64(86_400_000))
    private static let maxPlaces = 256
    /// Answers of JetStream's that are waited for at a time, by who reads.
    private static let maxReads = 128
    /// What headers and JetStream add to a record.
    static let overhead = 1024

    /// Before all messages: where those stand who have read what is not there, and make nothing.
    private let unwritten: LogEpoch

    init(_ topic: String, _ server: NATSServer, unwritten: LogEpoch) {
      self.topic = topic
      self.server = server
      self.unwritten = unwritten
      purge = NATSPurge(server.names.stream(topic), server.names)
    }

    /// Whether it knows something that can't be asked for again.
    var isInUse: Bool { state.withLock { !$0.doubts.isEmpty } }

    private var foreign: TopicError {
      .refused("stream \(names.stream(topic)) has something that Sluice does not write")
    }

    // MARK: the newest record

    /// As the stream has it now; nil where there is none.
    private func existingTail(by connection: NATSConnection) async throws -> Tail? {
      let stream = names.stream(topic)
      switch try await connection.last(of: stream, on: names.subjects(topic), names) {
      case .success(let stored):
        guard let record = NATSRecord(stored.bytes, withContents: true) else { throw foreign }
        return Tail(sequence: stored.sequence, record: record)
      case .failure(let error) where [NATSError.noSuchStream, NATSError.noSuchMessage].contains(error.code): return nil
      case .failure(let error): throw error.topicError("STREAM.MSG.GET \(stream)")
      }
    }

    /// As the stream has it now; the stream is made where there is none.
    func tail(by connection: NATSConnection) async throws -> Tail {
      let stream = names.stream(topic)
      let deadline = ContinuousClock.now + server.options.commandTimeout.bounded
      while ContinuousClock.now < deadline {
        switch try await connection.last(of: stream, on: names.subjects(topic), names) {
        case .success(let stored):
          guard let record = NATSRecord(stored.bytes, withContents: true) else { throw foreign }
          return Tail(sequence: stored.sequence, record: record)
        case .failure(let error) where error.code == NATSError.noSuchStream: try await create(by: connection)
        case .failure(let error) where error.code == NATSError.noSuchMessage:
          if let tail = try await begin(by: connection) { return tail }
        case .failure(let error): throw error.topicError("STREAM.MSG.GET \(stream)")
        }
      }
      throw TopicError.unavailable("\(stream) does not come about")
    }

    private func create(by connection: NATSConnection) async throws {
      let stream = names.stream(topic)
      // Where there is a limit, what does not fit is refused: JetStream would drop the oldest, and nobody would know.
      try await connection.make(
        stream,
        """
        {"name":"\(stream)","subjects":["\(names.subjects(topic))"],"retention":"limits","storage":"\(server.options.storage.rawValue)",\
        "num_replicas":\(server.options.replicas),"max_consumers":-1,"max_msgs":-1,"max_bytes":\(server.options.maxStreamBytes ?? -1),\
        "max_age":0,"discard":"new","allow_direct":true,\
        "republish":{"src":"\(names.subjects(topic))","dest":"\(names.live(topic, epoch: "$1"))"},\
        "description":"Sluice: the topic \(topic)"}
        """, names)
    }

    /// A record without messages, so that the log has an epoch.
    /// - Returns: nil if somebody else was faster.
    private func begin(by connection: NATSConnection) async throws -> Tail? {
      let stream = names.stream(topic)
      let info = try await connection.ask(names.request("STREAM.INFO", stream), "")
      if let error = NATSError(info) { throw error.topicError("STREAM.INFO \(stream)") }
      guard let last = info["state"]?["last_seq"]?.number else {
        throw TopicError.unavailable("STREAM.INFO: not understood")
      }
      guard info["config"]?["subjects"]?.array?.compactMap(\.text) == [names.subjects(topic)] else {
        throw TopicError.refused("stream \(stream) is not one that Sluice has made: its subjects are others")
      }
      let now = NATSRecord.milliseconds(WallClock.now)
      let first = Self.firstNumber(at: now)
      let epoch = LogEpoch(name: LogEpoch.newName(), first: first, last: first - 1)
      let record = NATSRecord(
        life: try await connection.currentLife(server), epochs: [epoch], earliest: nil,
        base: .init(sequence: last + 1, offset: first, bytes: 0, time: now), bytesBefore: 0, time: now, writersAt: 0,
        writers: [], writer: "", firstNumber: 0, count: 0, byteCount: 0, contents: [])
      let subject = names.subject(topic, epoch: epoch.name)
      switch try await connection.store(record.encoded, on: subject, behind: last) {
      case .success(let sequence)?: return Tail(sequence: sequence, record: record)
      case .failure(let error)? where error.code != NATSError.wrongLastSequence: throw error.topicError(subject)
      case .failure?, nil: return nil
      }
    }

    /// Above all numbers that the log ever had, also those that nobody knows of any more.
    private static func firstNumber(at milliseconds: UInt64) -> UInt64 { min(max(milliseconds, 1), 1 << 42) * 1024 }

    // MARK: reading

    /// - Returns: nil for what is not there (any more).
    private func record(
      _ sequence: UInt64, withContents: Bool, by connection: NATSConnection
    ) async throws -> NATSRecord? {
      try await record(sequence, beginReading(sequence, connection), withContents, connection)
    }

    private func beginReading(_ sequence: UInt64, _ connection: NATSConnection) -> SharedResult<NATSMessage> {
      connection.begin(names.request("DIRECT.GET", names.stream(topic)), Bytes("{\"seq\":\(sequence)}"))
    }

    /// - Parameter reading: Of whichever copy of the stream is near. It may be behind, and it may lack for good what the leader has (seen with NATS 2.9.10 whose servers were
    ///   killed while it was purged): what it does not have, the leader is asked for.
    private func record(
      _ sequence: UInt64, _ reading: SharedResult<NATSMessage>, _ withContents: Bool, _ connection: NATSConnection
    ) async throws -> NATSRecord? {
      let answer = try await reading.value()
      if answer.status == "404" {
        switch try await connection.stored(in: names.stream(topic), "\"seq\":\(sequence)", names) {
        case .success(let stored):
          guard let record = NATSRecord(stored.bytes, withContents: withContents) else { throw foreign }
          return record
        case .failure(let error) where [NATSError.noSuchStream, NATSError.noSuchMessage].contains(error.code):
          return nil
        case .failure(let error): throw error.topicError("STREAM.MSG.GET \(names.stream(topic))")
        }
      }
      if answer.hasNoResponders { throw TopicError.unavailable("DIRECT.GET: JetStream does not answer") }
      if let status = answer.status { throw TopicError.refused("DIRECT.GET \(names.stream(topic)): \(status)") }
      guard let record = NATSRecord(answer.bytes, withContents: withContents) else { throw foreign }
      return record
    }

    /// The record with a sequence, or the first one behind it that is there.
    private func record(
      from sequence: UInt64, withContents: Bool, by connection: NATSConnection
    ) async throws -> (sequence: UInt64, record: NATSRecord)? {
      if let record = try await record(sequence, withContents: withContents, by: connection) {
        return (sequence, record)
      }
      let stream = names.stream(topic)
      let query = "\"seq\":\(sequence),\"next_by_subj\":\"\(names.subjects(topic))\""
      switch try await connection.stored(in: stream, query, names) {
      case .success(let stored):
        guard let record = NATSRecord(stored.bytes, withContents: withContents) else { throw foreign }
        return (stored.sequence, record)
      case .failure(let error) where [NATSError.noSuchStream, NATSError.noSuchMessage].contains(error.code): return nil
      case .failure(let error): throw error.topicError("STREAM.MSG.GET \(stream)")
      }
    }

    /// See `TopicEngine.read`.
    func read(
      after offset: UInt64, maxCount: Int, maxBytes: Int, by connection: NATSConnection
    ) async throws -> LogSlice {
      for attempt in 0..<Self.maxAttempts {
        try await wait(before: attempt)
        let found =
          server.options.readingMakesStreams ? try await tail(by: connection) : try await existingTail(by: connection)
        guard let tail = found else { return LogSlice([], LogState(epoch: unwritten, earliest: nil)) }
        guard let state = known(tail.record.state) else { throw foreign }
        guard let earliest = state.earliest else { return LogSlice([], state) }
        let isSure = attempt >= Self.sureAttempt
        if maxCount == 0 {
          guard let whole = try await whole(state, tail, isSure, connection) else { continue }
          return LogSlice([], whole)
        }
        if offset >= tail.record.last { return LogSlice([], state) }
        let start = max(offset, earliest - 1)
        guard let sequence = try await place(of: start + 1, tail, connection) else { continue }
        let read = try await collect(
          from: sequence, after: start, maxCount, maxBytes, tail, state, isSure: isSure, connection)
        if let read { return read }
      }
      throw isIncomplete
    }

    private static let maxAttempts = 12
    /// From here on, after an eighth of a second, what the newest record says is there and is not counts as lost: somebody has purged the stream, or its servers
    /// have lost a part of it (seen with NATS 2.9.10 whose servers were killed).
    private static let sureAttempt = 6

    /// - Returns: the state without what the stream has lost of its beginning; nil if the log may just have changed.
    private func whole(
      _ state: LogState, _ tail: Tail, _ isSure: Bool, _ connection: NATSConnection
    ) async throws -> LogState? {
      let base = tail.record.base.sequence
      if base >= tail.sequence { return state }
      guard let found = try await record(from: base, withContents: false, by: connection) else { return nil }
      if found.sequence == base { return state }
      return isSure ? state.whole(from: found.record.firstOffset) : nil
    }

    /// What is trimmed while it is looked for has another beginning then: within a good second in all.
    private func wait(before attempt: Int) async throws {
      if attempt > 0 { try await pause(for: .milliseconds(1 << min(attempt, 8))) }
    }

    private var isIncomplete: TopicError {
      .unavailable("stream \(names.stream(topic)) is trimmed faster than it is read")
    }

    /// The state with what the positions of this process mean.
    private func known(_ state: LogState?) -> LogState? {
      guard let state, !server.options.readingMakesStreams else { return state }
      return LogState(epochs: [unwritten] + state.epochs, earliest: state.earliest)
    }

    /// The record with a number, or the last one before it.
    /// - Returns: nil if the log has changed meanwhile.
    private func place(of offset: UInt64, _ tail: Tail, _ connection: NATSConnection) async throws -> UInt64? {
      if offset >= tail.record.firstOffset { return tail.sequence }
      let base = tail.record.base
      var low = (offset: base.offset, sequence: base.sequence)
      var high = (offset: tail.record.firstOffset, sequence: tail.sequence)
      state.withLock { state in
        // A stream that was made anew has other records at the same sequences.
        state.places.removeAll { place in
          !tail.record.epochs.contains { $0.first <= place.offset && max(place.offset, 1) - 1 <= $0.last }
        }
        for place in state.places where place.sequence > low.sequence && place.sequence < high.sequence {
          if place.offset <= offset, place.sequence > low.sequence {
            low = place
          } else if place.offset > offset, place.sequence < high.sequence {
            high = place
          }
        }
      }
      guard low.offset <= offset, low.sequence < high.sequence else { return forgetPlaces() }
      var bisects = false
      while high.sequence - low.sequence > 1 {
        // Where it is if all records are alike; every other time in the middle, for they are not.
        let gap = high.sequence - low.sequence
        let part = Double(offset - low.offset) / Double(max(high.offset - low.offset, 1))
        let guess = low.sequence + (bisects ? gap / 2 : UInt64(min(max(part * Double(gap), 1), Double(gap - 1))))
        bisects.toggle()
        let sequence = min(max(guess, low.sequence + 1), high.sequence - 1)
        guard let (found, record) = try await record(from: sequence, withContents: false, by: connection),
          record.firstOffset >= low.offset, record.firstOffset <= high.offset
        else { return forgetPlaces() }
        if record.firstOffset <= offset, found < high.sequence {
          low = (record.firstOffset, found)
          if record.last >= offset { break }
        } else {
          high = (record.firstOffset, sequence)
        }
      }
      remember(low)
      return low.sequence
    }

    private func forgetPlaces() -> UInt64? {
      state.withLock { $0.places = [] }
      return nil
    }

    private func remember(_ place: (offset: UInt64, sequence: UInt64)) {
      state.withLock { state in
        guard !state.places.contains(where: { $0 == place }) else { return }
        if state.places.count >= Self.maxPlaces { state.places.removeFirst(Self.maxPlaces / 2) }
        state.places.append(place)
      }
    }

    /// - Parameter isSure: What is missing is lost; else the log may have changed meanwhile.
    /// - Returns: nil in that case.
    private func collect(
      from first: UInt64, after offset: UInt64, _ maxCount: Int, _ maxBytes: Int, _ tail: Tail, _ state: LogState,
      isSure: Bool, _ connection: NATSConnection
    ) async throws -> LogSlice? {
      var messages: [TopicMessage] = []
      var byteCount = 0
      var next = first
      var (recordCount, recordBytes) = (0, 0)
      while next <= tail.sequence {
        // No more at a time than there is room for, as far as one can know.
        let average = recordCount == 0 ? maxBytes / 8 : recordBytes / recordCount
        let room = (maxBytes - byteCount) / max(average, 1)
        let count = UInt64(min(max(room, 1), Self.maxReads, maxCount - messages.count))
        let end = min(next + count, tail.sequence)
        let readings = (next..<max(end, next)).map { beginReading($0, connection) }
        var records: [NATSRecord] = []
        for (sequence, reading) in zip(next..., readings) {
          guard let record = try await record(sequence, reading, true, connection) else { break }
          records.append(record)
        }
        let isCut = records.count < readings.count
        if isCut, records.isEmpty, messages.isEmpty {
          return try await collect(behindLoss: next, after: offset, maxCount, maxBytes, tail, state, isSure, connection)
        }
        // The newest one is here already.
        if !isCut, end == tail.sequence, UInt64(records.count) < count || records.isEmpty {
          records.append(tail.record)
        }
        if next == first, let record = records.first, record.firstOffset > offset + 1 { return giveUp() }
        for record in records {
          remember((record.firstOffset, next))
          next += 1
          recordCount += 1
          for message in record.messages(after: offset, in: state) {
            byteCount += message.byteCount
            recordBytes += message.byteCount
            if byteCount > maxBytes && !messages.isEmpty { return LogSlice(messages, state) }
            messages.append(message)
            if messages.count == maxCount { return LogSlice(messages, state) }
          }
        }
        // What is missing is looked at by who has read what is before it.
        if isCut, !messages.isEmpty { return LogSlice(messages, state) }
      }
      return LogSlice(messages, state)
    }

    /// - Parameter missing: The sequence of a record that is not there.
    private func collect(
      behindLoss missing: UInt64, after offset: UInt64, _ maxCount: Int, _ maxBytes: Int, _ tail: Tail,
      _ state: LogState, _ isSure: Bool, _ connection: NATSConnection
    ) async throws -> LogSlice? {
      guard isSure, let (next, record) = try await record(from: missing, withContents: false, by: connection),
        next <= tail.sequence
      else { return giveUp() }
      let first = record.firstOffset
      // One without messages is no loss.
      let isWhole = first <= offset + 1 || (try? state.successor(of: state.position(of: offset))) == first
      return try await collect(
        from: next, after: isWhole ? offset : first - 1, maxCount, maxBytes, tail,
        isWhole ? state : state.whole(from: first), isSure: true, connection)
    }

    private func giveUp() -> LogSlice? {
      _ = forgetPlaces()
      return nil
    }

    // MARK: appending

    /// See `TopicEngine.append`.
    func append(_ batch: AppendBatch, limits: LogLimits, by link: NATSLink) async throws -> Position {
      try await line.enter()
      defer { line.leave() }
      let deadline = ContinuousClock.now + server.options.commandTimeout.bounded
      var attempt = 0
      while true {
        let connection = try await link.connection()
        if let position = try await tryToAppend(batch, limits, connection) { return position }
        // Somebody else was faster, or the stream is another one now.
        guard ContinuousClock.now < deadline else {
          throw TopicError.unavailable(
            "stream \(names.stream(topic)) changes faster than this process can append to it")
        }
        attempt += 1
        if attempt > 1 { try await pause(for: .microseconds(Int64.random(in: 0...(500 << min(attempt, 6))))) }
      }
    }

    /// - Returns: nil if it is not stored, and another attempt may be.
    private func tryToAppend(
      _ batch: AppendBatch, _ limits: LogLimits, _ connection: NATSConnection
    ) async throws -> Position? {
      let life = try await connection.currentLife(server)
      let id = ObjectIdentifier(connection)
      let known = state.withLock { state in state.tail.flatMap { $0.connection == id ? $0.tail : nil } }
      let tail: Tail
      if let known { tail = known } else { tail = try await self.tail(by: connection) }
      guard let before = tail.record.state else { throw foreign }
      if let position = try await stored(batch, tail, before, connection) {
        state.withLock { $0.tail = (tail, id) }
        return position
      }
      var writers: [NATSRecord.Writer] = []
      let isNamed = batch.writer.utf8.starts(with: "n-".utf8)
      if isNamed {
        writers = try await self.writers(tail, connection)
        if let writer = writers.first(where: { $0.name == batch.writer }), batch.lastNumber <= writer.number {
          return before.position(of: writer.offset)
        }
      }
      let record = try await record(
        of: batch, behind: tail, before, limits, life: life, writers: isNamed ? writers : nil, connection)
      let encoded = record.encoded
      guard encoded.count + Self.overhead <= connection.maxPayload else {
        let room =
          connection.maxPayload - Self.overhead - (encoded.count - batch.contents.reduce(0) { $0 + $1.byteCount })
        if batch.contents.count == 1 {
          throw TopicError.messageTooLarge(limit: max(room, 0), actual: batch.contents[0].byteCount)
        }
        throw TopicError.refused("the server's max_payload is too small: \(connection.maxPayload) bytes")
      }
      state.withLock { state in
        // The one before it has been looked for, and is not stored and will not be.
        state.doubts[batch.writer] = Doubt(firstNumber: batch.firstNumber, sequence: tail.sequence + 1)
      }
      guard try await put(record, encoded, behind: tail, connection) else { return nil }
      state.withLock { $0.doubts[batch.writer] = nil }
      return Position(epoch: record.epochs[record.epochs.count - 1].name, offset: record.last)
    }

    /// - Returns: false if somebody else was faster, or the stream is not there any more.
    private func put(
      _ record: NATSRecord, _ encoded: Bytes, behind tail: Tail, _ connection: NATSConnection
    ) async throws -> Bool {
      let epoch = record.epochs[record.epochs.count - 1]
      let isSameEpoch = epoch.name == tail.record.epochs.last?.name
      state.withLock { $0.tail = nil }
      let outcome = try await connection.store(
        encoded, on: names.subject(topic, epoch: epoch.name), behind: tail.sequence,
        lastOnSubject: isSameEpoch ? tail.sequence : 0)
      switch outcome {
      case .success(let sequence)?:
        state.withLock { state in
          var kept = record
          kept.contents = []
          state.tail = (Tail(sequence: sequence, record: kept), ObjectIdentifier(connection))
        }
        let base = record.base.sequence
        if base > tail.record.base.sequence { purge.remove(before: base, by: connection) }
        return true
      case .failure(let error)? where error.code == NATSError.wrongLastSequence: return false
      // No stream has the subject: it was deleted, or has no leader.
      case nil: return false
      case .failure(let error)?: throw error.topicError("an append to \(names.stream(topic))")
      }
    }

    // MARK: looking after it

    /// See `TopicEngine.size`.
    func size(by connection: NATSConnection) async throws -> LogSize? {
      for attempt in 0..<Self.maxAttempts {
        try await wait(before: attempt)
        guard let tail = try await existingTail(by: connection), tail.record.earliest != nil,
          let log = tail.record.state
        else { return nil }
        guard let log = try await whole(log, tail, attempt >= Self.sureAttempt, connection) else { continue }
        guard let earliest = log.earliest else { return nil }
        guard let sequence = try await place(of: earliest, tail, connection),
          let first = sequence == tail.sequence
            ? tail.record : try await record(from: sequence, withContents: true, by: connection)?.record
        else { continue }
        let gone = zip(first.firstOffset..., first.contents).reduce(first.bytesBefore) {
          $1.0 < earliest ? $0 + UInt64($1.1.byteCount) : $0
        }
        let all = tail.record.bytesBefore + UInt64(tail.record.byteCount)
        guard gone <= all else { throw foreign }
        return LogSize(count: Int(clamping: log.messageCount), byteCount: Int(clamping: all - gone))
      }
      throw isIncomplete
    }

    /// See `TopicEngine.trim`: by a record without messages.
    func trim(to limits: LogLimits, by link: NATSLink) async throws -> Int {
      try await line.enter()
      defer { line.leave() }
      let deadline = ContinuousClock.now + server.options.commandTimeout.bounded
      while ContinuousClock.now < deadline {
        let connection = try await link.connection()
        let life = try await connection.currentLife(server)
        guard let tail = try await existingTail(by: connection), tail.record.earliest != nil,
          let before = tail.record.state
        else { return 0 }
        let record = try await record(
          of: AppendBatch([], writer: "", firstNumber: 0), behind: tail, before, limits, life: life, writers: nil,
          connection)
        guard let after = record.state else { throw foreign }
        let gone = Int(clamping: before.messageCount) - Int(clamping: after.messageCount)
        if gone == 0 { return 0 }
        if try await put(record, record.encoded, behind: tail, connection) { return gone }
      }
      throw TopicError.unavailable("stream \(names.stream(topic)) changes faster than this process can trim it")
    }

    /// Where a batch is that was sent before, if it is stored.
    private func stored(
      _ batch: AppendBatch, _ tail: Tail, _ log: LogState, _ connection: NATSConnection
    ) async throws -> Position? {
      guard let doubt = state.withLock({ $0.doubts[batch.writer] }), doubt.firstNumber == batch.firstNumber,
        doubt.sequence <= tail.sequence
      else { return nil }
      let found: NATSRecord?
      if doubt.sequence == tail.sequence {
        found = tail.record
      } else {
        found = try await record(doubt.sequence, withContents: false, by: connection)
      }
      guard let found else {
        throw TopicError.unavailable("what was appended is trimmed already, if it was stored")
      }
      guard found.writer == batch.writer, found.firstNumber == batch.firstNumber else { return nil }
      state.withLock { $0.doubts[batch.writer] = nil }
      return log.position(of: found.last)
    }

    private func writers(_ tail: Tail, _ connection: NATSConnection) async throws -> [NATSRecord.Writer] {
      if tail.record.writersAt == 0 { return [] }
      if tail.record.writersAt == tail.sequence { return tail.record.writers }
      return try await record(tail.record.writersAt, withContents: false, by: connection)?.writers ?? []
    }

    /// What a batch becomes behind the newest record.
    private func record(
      of batch: AppendBatch, behind tail: Tail, _ before: LogState, _ limits: LogLimits, life: String,
      writers: [NATSRecord.Writer]?, _ connection: NATSConnection
    ) async throws -> NATSRecord {
      let last = tail.record
      let now = NATSRecord.milliseconds(WallClock.now)
      let bytes = UInt64(batch.contents.reduce(0) { $0 + $1.byteCount })
      let total = last.bytesBefore + UInt64(last.byteCount) + bytes
      var epochs = last.epochs
      if last.life != life {
        let first = max(Self.firstNumber(at: now), last.last + 2)
        epochs.append(LogEpoch(name: LogEpoch.newName(), first: first, last: first - 1))
        // Positions of those that are forgotten are lost ones.
        epochs.removeFirst(max(epochs.count - Self.maxEpochs, 0))
      }
      epochs[epochs.count - 1].last += UInt64(batch.contents.count)
      guard let end = epochs.last?.last, LogState.numbers.contains(end) else { throw foreign }
      var record = NATSRecord(
        life: life, epochs: epochs, earliest: last.earliest, base: last.base, bytesBefore: total - bytes, time: now,
        writersAt: last.writersAt, writers: [], writer: batch.writer, firstNumber: batch.firstNumber,
        count: UInt64(batch.contents.count), byteCount: Int(clamping: bytes), contents: batch.contents)
      let own = NATSRecord.Base(
        sequence: tail.sequence + 1, offset: record.firstOffset, bytes: record.bytesBefore, time: now)
      if last.earliest == nil {
        record.earliest = record.firstOffset
        record.base = own
      }
      try await trim(&record, own, tail, limits, connection)
      if let writers {
        var list = writers.filter { $0.name != batch.writer && now < $0.time + Self.writerMemory }
        list.removeFirst(max(list.count - Self.maxWriters + 1, 0))
        list.append(.init(name: batch.writer, number: batch.lastNumber, offset: record.last, time: now))
        record.writers = list
        record.writersAt = own.sequence
      } else if record.writersAt != 0, record.writersAt < record.base.sequence {
        // The record that has them goes.
        record.writers = try await self.writers(tail, connection).filter { now < $0.time + Self.writerMemory }
        record.writersAt = record.writers.isEmpty ? 0 : own.sequence
      }
      return record
    }

    /// What is beyond the limits counts as gone: messages beyond the count, and whole records beyond the bytes and the age, once that is a 256th more than
    /// the limit. The stream is purged up to the oldest record that is kept.
    private func trim(
      _ record: inout NATSRecord, _ own: NATSRecord.Base, _ tail: Tail, _ limits: LogLimits,
      _ connection: NATSConnection
    ) async throws {
      guard let log = record.state else { throw foreign }
      if let first = try? log.successor(of: log.position(beforeLast: max(limits.count, 1))) { record.earliest = first }
      let total = record.bytesBefore + UInt64(record.byteCount)
      let maxBytes = limits.bytes.map { UInt64(clamping: $0) }
      let maxAge = limits.age.map(NATSRecord.milliseconds)
      let earliest = record.earliest ?? own.offset
      let isBeyond =
        (maxBytes.map { total - record.base.bytes > $0 + $0 / 256 } ?? false)
        || (maxAge.map { record.time > record.base.time + $0 + $0 / 256 } ?? false)
        || earliest - record.base.offset > UInt64(max(64, limits.count / 256))
      guard isBeyond else { return }
      func isKept(_ base: NATSRecord.Base, last: UInt64) -> Bool {
        last >= earliest && (maxBytes.map { total - base.bytes <= $0 } ?? true)
          && (maxAge.map { record.time <= base.time + $0 } ?? true)
      }
      // The oldest one that is kept: the newest is in any case.
      var (low, high, kept) = (record.base.sequence, own.sequence, own)
      while low < high {
        let middle = low + (high - low) / 2
        let base: NATSRecord.Base
        let last: UInt64
        if middle == tail.sequence {
          let newest = tail.record
          base = .init(sequence: middle, offset: newest.firstOffset, bytes: newest.bytesBefore, time: newest.time)
          last = newest.last
        } else if let found = try await self.record(middle, withContents: false, by: connection) {
          base = .init(sequence: middle, offset: found.firstOffset, bytes: found.bytesBefore, time: found.time)
          last = found.last
        } else {
          low = middle + 1
          continue
        }
        if isKept(base, last: last) { (high, kept) = (middle, base) } else { low = middle + 1 }
      }
      var newest = record
      if record.count == 0, kept.offset > record.last {
        // None that is kept has a message: the one with the newest stays.
        guard let sequence = try await place(of: record.last, tail, connection),
          let found = sequence == tail.sequence
            ? tail.record : try await self.record(sequence, withContents: true, by: connection)
        else { throw TopicError.unavailable("stream \(names.stream(topic)) is trimmed by somebody else") }
        newest = found
        kept = .init(sequence: sequence, offset: found.firstOffset, bytes: found.bytesBefore, time: found.time)
      } else if kept != own {
        record.base = kept
        record.earliest = max(earliest, kept.offset)
        return
      }
      record.base = kept
      // Of its messages too, but the last.
      var (first, rest) = (newest.last, UInt64(0))
      for content in newest.contents.reversed() {
        rest += UInt64(content.byteCount)
        if rest > maxBytes ?? .max { break }
        first -= 1
      }
      record.earliest = max(earliest, kept.offset, min(first + 1, newest.last))
    }
  }

  extension LogState {
    fileprivate var messageCount: UInt64 {
      guard let earliest else { return 0 }
      return epochs.reduce(0) { count, epoch in
        let first = max(epoch.first, earliest)
        return epoch.last < first ? count : count + epoch.last - first + 1
      }
    }
  }
#endif
