#if SQLite
  import CSluiceSQLite
  import SluiceStreams
  import SluiceTopics

  enum SQLiteValue {
    case integer(Int64)
    case text(String)
    case blob(Bytes)
    case null
  }

  /// A row that a statement has come to: good until the next one.
  @safe struct SQLiteRow {
    fileprivate let statement: OpaquePointer

    func integer(_ column: Int32) -> Int64 { unsafe sqlite3_column_int64(statement, column) }

    func isNull(_ column: Int32) -> Bool { unsafe sqlite3_column_type(statement, column) == SQLITE_NULL }

    func bytes(_ column: Int32) -> Bytes {
      guard let start = unsafe sqlite3_column_blob(statement, column) else { return Bytes() }
      let memory = unsafe UnsafeRawBufferPointer(start: start, count: Int(sqlite3_column_bytes(statement, column)))
      return unsafe Bytes(copying: memory.assumingMemoryBound(to: UInt8.self).span)
    }

    func text(_ column: Int32) -> String { bytes(column).string }
  }

  @safe private final class SQLiteStatement {
    let pointer: OpaquePointer

    init(_ pointer: OpaquePointer) { unsafe self.pointer = pointer }

    deinit { _ = unsafe sqlite3_finalize(pointer) }
  }

  /// A connection to a file, and its statements. Used by one thread at a time.
  @safe final class SQLiteDatabase {
    private let handle: OpaquePointer
    private let path: String
    private let lockTimeout: Duration
    private var statements: [String: SQLiteStatement] = [:]

    /// - Throws: `TopicError`.
    init(_ path: String, readOnly: Bool = false, lockTimeout: Duration) throws {
      var handle: OpaquePointer?
      let access = readOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
      // As a name, and not as a URI.
      let status = unsafe sqlite3_open_v2(path, &handle, access | SQLITE_OPEN_NOMUTEX, nil)
      guard let handle = unsafe handle else { throw TopicError.unavailable("out of memory") }
      unsafe self.handle = handle
      self.path = path
      self.lockTimeout = lockTimeout
      guard status == SQLITE_OK else { throw error(status) }
      _ = unsafe sqlite3_busy_timeout(handle, Int32(clamping: lockTimeout.bounded.wholeMilliseconds))
    }

    // It goes when its last statement has.
    deinit { _ = unsafe sqlite3_close_v2(handle) }

    var hasMoved: Bool { unsafe sluice_sqlite_has_moved(handle) != 0 }

    func run(_ sql: String, _ values: SQLiteValue...) throws { try query(sql, values) { _ in false } }

    /// The first row's first column, or what it is without a row.
    func integer(_ sql: String, _ values: SQLiteValue...) throws -> Int64? {
      var found: Int64?
      try query(sql, values) { row in
        found = row.isNull(0) ? nil : row.integer(0)
        return false
      }
      return found
    }

    func text(_ sql: String, _ values: SQLiteValue...) throws -> String? {
      var found: String?
      try query(sql, values) { row in
        found = row.isNull(0) ? nil : row.text(0)
        return false
      }
      return found
    }

    /// - Parameter next: Is given one row after the other, until it returns false.
    func query(_ sql: String, _ values: [SQLiteValue], _ next: (SQLiteRow) throws -> Bool) throws {
      let statement = try unsafe statement(sql)
      defer {
        _ = unsafe sqlite3_reset(statement)
        _ = unsafe sqlite3_clear_bindings(statement)
      }
      for (index, value) in values.enumerated() {
        let status = unsafe bind(value, to: statement, Int32(index + 1))
        guard status == SQLITE_OK else { throw error(status) }
      }
      while true {
        let status = unsafe sqlite3_step(statement)
        switch status {
        case SQLITE_ROW: if try !next(unsafe SQLiteRow(statement: statement)) { return }
        case SQLITE_DONE: return
        default: throw error(status)
        }
      }
    }

    private func statement(_ sql: String) throws -> OpaquePointer {
      if let known = statements[sql] { return unsafe known.pointer }
      var made: OpaquePointer?
      let status = unsafe sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &made, nil)
      guard status == SQLITE_OK, let statement = unsafe made else { throw error(status) }
      statements[sql] = unsafe SQLiteStatement(statement)
      return unsafe statement
    }

    private func bind(_ value: SQLiteValue, to statement: OpaquePointer, _ index: Int32) -> Int32 {
      switch value {
      case .integer(let number): unsafe sqlite3_bind_int64(statement, index, number)
      case .text(let text):
        unsafe sluice_sqlite_bind_text(statement, index, text, Int32(clamping: text.utf8.count))
      case .blob(let bytes):
        unsafe bytes.withUnsafeBytes { buffer in
          unsafe sluice_sqlite_bind_blob(statement, index, buffer.baseAddress, Int32(clamping: buffer.count))
        }
      case .null: unsafe sqlite3_bind_null(statement, index)
      }
    }

    /// - Parameter begin: `BEGIN IMMEDIATE` to write, `BEGIN` to read what belongs together.
    func transaction<Value>(_ begin: String, _ body: () throws -> Value) throws -> Value {
      try run(begin)
      do {
        let value = try body()
        try run("COMMIT")
        return value
      } catch {
        // Some errors have rolled it back by themselves.
        if unsafe sqlite3_get_autocommit(handle) == 0 { try? run("ROLLBACK") }
        throw error
      }
    }

    /// What a status means for those who read and append.
    private func error(_ status: Int32) -> TopicError {
      let text = unsafe String(cString: sqlite3_errmsg(handle))
      return switch status & 0xFF {
      case SQLITE_BUSY, SQLITE_LOCKED:
        .unavailable("\(path) has been locked by another process for longer than \(lockTimeout)")
      case SQLITE_FULL: .refused("\(path) can't grow: \(text)")
      case SQLITE_READONLY, SQLITE_PERM, SQLITE_AUTH: .refused("\(path) may not be written: \(text)")
      case SQLITE_NOTADB: .refused("\(path) is no file of topics")
      case SQLITE_CANTOPEN: .refused("\(path) can't be opened: \(text)")
      case SQLITE_CORRUPT: .refused("\(path) is damaged: \(text)")
      case SQLITE_IOERR, SQLITE_NOMEM, SQLITE_INTERRUPT, SQLITE_SCHEMA, SQLITE_PROTOCOL:
        .unavailable("\(path): \(text)")
      default: .refused("\(path): \(text)")
      }
    }
  }
#endif
