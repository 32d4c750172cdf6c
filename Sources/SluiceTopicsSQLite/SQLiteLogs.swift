#if SQLite
  import SluiceStreams
  import SluiceTopics

  #if canImport(Glibc)
    import Glibc
  #elseif canImport(Musl)
    import Musl
  #else
    import Darwin
  #endif

  /// What a file has of the logs. Used by one thread at a time.
  final class SQLiteLogs {
    let database: SQLiteDatabase
    private let path: String

    /// "Slui"
    private static let applicationID: Int64 = 0x536C_7569
    private static let version: Int64 = 1
    private static let writerMemory: (named: Int64, other: Int64) = (86_400, 3_600)
    /// Of ended epochs, as text; the oldest are forgotten.
    private static let maxEpochBytes = 4096

    init(_ path: String, _ options: SQLiteOptions) throws {
      self.path = path
      let isReadOnly = options.access == .readOnly
      if isReadOnly, unsafe access(path, F_OK) != 0 {
        throw TopicError.refused("\(path) can't be read: \(unsafe String(cString: strerror(errno)))")
      }
      database = try SQLiteDatabase(path, readOnly: isReadOnly, lockTimeout: options.lockTimeout)
      // Before anything is changed: it may be somebody else's.
      let (owner, tables) = try database.transaction("BEGIN") {
        let tables = try database.integer("SELECT count(*) FROM sqlite_schema") ?? 0
        return (try database.integer("PRAGMA application_id") ?? 0, tables)
      }
      let isNew = owner == 0 && tables == 0
      guard isNew || owner == Self.applicationID else {
        throw TopicError.refused("\(path) is a database of another program")
      }
      if isReadOnly {
        guard !isNew else { throw TopicError.refused("\(path) is no file of topics") }
        try checkVersion()
        return
      }
      guard try Self.writesAhead(database, within: options.lockTimeout) else {
        throw TopicError.refused("\(path) can't have a write-ahead log where it is")
      }
      try database.run("PRAGMA synchronous=\(options.durability == .full ? "FULL" : "NORMAL")")
      // Where the system's flush leaves bytes in the disk's own memory (macOS).
      if options.durability == .full { try database.run("PRAGMA fullfsync=ON") }
      if let maxBytes = options.maxFileBytes {
        let pageSize = max(try database.integer("PRAGMA page_size") ?? 4096, 512)
        try database.run("PRAGMA max_page_count=\(max(Int64(maxBytes) / pageSize, 1))")
      }
      if isNew { try database.transaction("BEGIN IMMEDIATE", makeTables) }
      try checkVersion()
    }

    private func checkVersion() throws {
      guard try database.integer("PRAGMA user_version") == Self.version else {
        throw TopicError.refused("\(path) was written by a later version of Sluice")
      }
    }

    /// SQLite does not wait for those who do the same at the same time.
    private static func writesAhead(_ database: SQLiteDatabase, within limit: Duration) throws -> Bool {
      let deadline = ContinuousClock.now + limit.bounded
      while true {
        do { return try database.text("PRAGMA journal_mode=WAL") == "wal" } catch TopicError.unavailable(let reason) {
          guard ContinuousClock.now < deadline else { throw TopicError.unavailable(reason) }
          usleep(1000)
        }
      }
    }

    private func makeTables() throws {
      try database.run(
        """
        CREATE TABLE IF NOT EXISTS topics(
          id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, life TEXT NOT NULL, ended TEXT NOT NULL,
          epoch TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL, bytes INTEGER NOT NULL)
        """)
      try database.run(
        """
        CREATE TABLE IF NOT EXISTS messages(
          topic INTEGER NOT NULL, number INTEGER NOT NULL, time INTEGER NOT NULL, kind TEXT NOT NULL, event TEXT, data BLOB NOT NULL,
          PRIMARY KEY(topic, number))
        """)
      try database.run(
        """
        CREATE TABLE IF NOT EXISTS writers(
          topic INTEGER NOT NULL, writer TEXT NOT NULL, number INTEGER NOT NULL, last INTEGER NOT NULL, until INTEGER NOT NULL,
          PRIMARY KEY(topic, writer)) WITHOUT ROWID
        """)
      try database.run("CREATE TABLE IF NOT EXISTS life(one INTEGER PRIMARY KEY CHECK (one = 1), name TEXT NOT NULL)")
      try database.run("PRAGMA user_version=\(Self.version)")
      try database.run("PRAGMA application_id=\(Self.applicationID)")
    }

    /// Changes whenever another connection has changed the file.
    func dataVersion() throws -> Int64 { try database.integer("PRAGMA data_version") ?? 0 }

    /// The life that appends belong to.
    /// - Parameter isNew: Nobody else appends: what was appended before may have been lost.
    func life(isNew: Bool) throws -> String {
      try database.transaction("BEGIN IMMEDIATE") {
        if !isNew, let life = try database.text("SELECT name FROM life") { return life }
        let life = LogEpoch.newName()
        try database.run("INSERT OR REPLACE INTO life VALUES (1, ?)", .text(life))
        try database.run("DELETE FROM writers WHERE until < ?", .integer(WallClock.now.components.seconds))
        return life
      }
    }

    // MARK: what there is

    private struct Row {
      var id: Int64
      var life: String
      var ended: String
      var epoch: String
      var first: Int64
      var last: Int64
      var count: Int64
      var bytes: Int64
    }

    private func row(_ topic: String) throws -> Row? {
      var found: Row?
      let sql = "SELECT id, life, ended, epoch, first, last, count, bytes FROM topics WHERE name = ?"
      try database.query(sql, [.text(topic)]) { row in
        found = Row(
          id: row.integer(0), life: row.text(1), ended: row.text(2), epoch: row.text(3), first: row.integer(4),
          last: row.integer(5), count: row.integer(6), bytes: row.integer(7))
        return false
      }
      return found
    }

    private func state(_ row: Row) throws -> LogState {
      var epochs: [LogEpoch] = []
      let all = row.ended + " \(row.epoch):\(row.first):\(row.last)"
      for part in all.split(separator: " ") {
        let fields = part.split(separator: ":")
        guard fields.count == 3, let first = UInt64(fields[1]), let last = UInt64(fields[2]),
          Position("\(fields[0]).\(last)") != nil
        else { throw foreign }
        epochs.append(LogEpoch(name: String(fields[0]), first: first, last: last))
      }
      let earliest = try database.integer("SELECT min(number) FROM messages WHERE topic = ?", .integer(row.id))
      guard let state = LogState(epochs: epochs, earliest: try earliest.map(number)) else { throw foreign }
      return state
    }

    private var foreign: TopicError { .refused("\(path) has something that Sluice does not write") }

    private func number(_ stored: Int64) throws -> UInt64 {
      guard let number = UInt64(exactly: stored) else { throw foreign }
      return number
    }

    /// - Returns: nil if the file does not know of the topic.
    func read(_ topic: String, after offset: UInt64, maxCount: Int, maxBytes: Int) throws -> LogSlice? {
      try database.transaction("BEGIN") {
        guard let row = try row(topic) else { return nil }
        let state = try state(row)
        guard maxCount > 0 else { return LogSlice([], state) }
        var messages: [TopicMessage] = []
        var byteCount = 0
        let sql = "SELECT number, time, kind, event, data FROM messages WHERE topic = ? AND number > ? ORDER BY number"
        try database.query(sql, [.integer(row.id), .integer(Int64(clamping: offset))]) { row in
          let kind: TopicContent.Kind = row.text(2) == "b" ? .binary : .text
          let content = TopicContent(kind: kind, bytes: row.bytes(4), event: row.isNull(3) ? nil : row.text(3))
          byteCount += content.byteCount
          if byteCount > maxBytes && !messages.isEmpty { return false }
          let position = state.position(of: try number(row.integer(0)))
          messages.append(
            TopicMessage(position: position, content: content, time: .microseconds(row.integer(1))))
          return messages.count < maxCount
        }
        return LogSlice(messages, state)
      }
    }

    // MARK: appending

    /// In a transaction.
    private func begin(_ topic: String, life: String) throws -> Row {
      let old = try row(topic)
      if let old, old.life == life { return old }
      // Above all numbers that the log ever had, also those that the file does not know of; and with a gap before them.
      var number = min(max(WallClock.now.wholeMilliseconds, 1), 1 << 42) * 1024
      let epoch = LogEpoch.newName()
      if var old {
        number = max(number, old.last &+ 2)
        // One that nothing was appended to has ended too: a copy of the file may have had something there.
        old.ended += (old.ended.isEmpty ? "" : " ") + "\(old.epoch):\(old.first):\(old.last)"
        while old.ended.utf8.count > Self.maxEpochBytes, let end = old.ended.firstIndex(of: " ") {
          old.ended.removeSubrange(...end)
        }
        try database.run(
          "UPDATE topics SET life = ?, ended = ?, epoch = ?, first = ?, last = ? WHERE id = ?", .text(life),
          .text(old.ended), .text(epoch), .integer(number), .integer(number - 1), .integer(old.id))
      } else {
        try database.run(
          "INSERT INTO topics(name, life, ended, epoch, first, last, count, bytes) VALUES (?, ?, '', ?, ?, ?, 0, 0)",
          .text(topic), .text(life), .text(epoch), .integer(number), .integer(number - 1))
      }
      guard let begun = try row(topic) else { throw foreign }
      return begun
    }

    /// A topic that somebody reads, and nobody has appended to.
    func create(_ topic: String, life: String) throws -> LogState {
      try database.transaction("BEGIN IMMEDIATE") {
        try state(try row(topic) ?? begin(topic, life: life))
      }
    }

    /// In a transaction.
    func append(_ batch: AppendBatch, to topic: String, limits: LogLimits, life: String) throws -> Position {
      guard let lastNumber = Int64(exactly: batch.lastNumber) else {
        throw TopicError.refused("a writer's number is up to 2^63")
      }
      if let known = try row(topic), let stored = try stored(batch, known) {
        return try state(known).position(of: stored)
      }
      var row = try begin(topic, life: life)
      let now = WallClock.now
      let time = Self.microseconds(now)
      for content in batch.contents {
        row.last += 1
        row.count += 1
        row.bytes += Int64(content.byteCount)
        try database.run(
          "INSERT INTO messages(topic, number, time, kind, event, data) VALUES (?, ?, ?, ?, ?, ?)", .integer(row.id),
          .integer(row.last), .integer(time), .text(content.kind == .text ? "t" : "b"),
          content.event.map { .text($0) } ?? .null, .blob(content.bytes))
      }
      let isNamed = batch.writer.utf8.starts(with: "n-".utf8)
      let until = now.components.seconds + (isNamed ? Self.writerMemory.named : Self.writerMemory.other)
      try database.run(
        "INSERT OR REPLACE INTO writers(topic, writer, number, last, until) VALUES (?, ?, ?, ?, ?)", .integer(row.id),
        .text(batch.writer), .integer(lastNumber), .integer(row.last), .integer(until))
      try trim(&row, limits, now: time)
      try database.run(
        "UPDATE topics SET last = ?, count = ?, bytes = ? WHERE id = ?", .integer(row.last), .integer(row.count),
        .integer(row.bytes), .integer(row.id))
      return Position(epoch: row.epoch, offset: try number(row.last))
    }

    // MARK: looking after logs

    func names() throws -> [String] {
      var names: [String] = []
      try database.query("SELECT name FROM topics WHERE count > 0", []) { row in
        names.append(row.text(0))
        return true
      }
      return names
    }

    func size(of topic: String) throws -> LogSize? {
      guard let row = try row(topic), row.count > 0 else { return nil }
      return LogSize(count: Int(clamping: row.count), byteCount: Int(clamping: row.bytes))
    }

    func trim(_ topic: String, to limits: LogLimits) throws -> Int {
      try database.transaction("BEGIN IMMEDIATE") {
        guard var row = try row(topic) else { return 0 }
        let before = row.count
        try trim(&row, limits, now: Self.microseconds(WallClock.now))
        try database.run(
          "UPDATE topics SET count = ?, bytes = ? WHERE id = ?", .integer(row.count), .integer(row.bytes),
          .integer(row.id))
        return Int(clamping: before - row.count)
      }
    }

    private static func microseconds(_ time: Duration) -> Int64 {
      time.components.seconds * 1_000_000 + time.components.attoseconds / 1_000_000_000_000
    }

    /// Where the writer's newest message is, if the batch is stored.
    private func stored(_ batch: AppendBatch, _ row: Row) throws -> UInt64? {
      var found: UInt64?
      let sql = "SELECT number, last FROM writers WHERE topic = ? AND writer = ?"
      try database.query(sql, [.integer(row.id), .text(batch.writer)]) { row in
        if batch.lastNumber <= (try number(row.integer(0))) { found = try number(row.integer(1)) }
        return false
      }
      return found
    }

    private func trim(_ row: inout Row, _ limits: LogLimits, now: Int64) throws {
      let maxCount = Int64(clamping: max(limits.count, 1))
      let maxBytes = limits.bytes.map { Int64(clamping: max($0, 0)) }
      let maxAge = limits.age.map { min(max(Int64(clamping: $0.bounded.wholeMilliseconds), 0), 1 << 50) * 1000 }
      func isBeyond(_ row: Row) -> Bool { row.count > maxCount || maxBytes.map { row.bytes > $0 } ?? false }
      guard row.count > 1, maxAge != nil || isBeyond(row) else { return }
      var cut: Int64?
      var rest = row
      let sql = """
        SELECT number, time, length(data) + ifnull(length(CAST(event AS BLOB)), 0) FROM messages WHERE topic = ? ORDER BY number
        """
      try database.query(sql, [.integer(row.id)]) { message in
        let isOld = maxAge.map { now - message.integer(1) > $0 } ?? false
        guard rest.count > 1, isOld || isBeyond(rest) else { return false }
        cut = message.integer(0)
        rest.count -= 1
        rest.bytes -= message.integer(2)
        return true
      }
      guard let cut else { return }
      try database.run("DELETE FROM messages WHERE topic = ? AND number <= ?", .integer(row.id), .integer(cut))
      row = rest
    }
  }
#endif
