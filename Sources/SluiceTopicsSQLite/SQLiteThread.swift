#if SQLite
  import Dispatch
  import SluiceStreams
  import SluiceTopics

  /// A thread that waits for the disk and for locks, with a connection that only it uses, opened when it is needed.
  final class SQLiteThread: @unchecked Sendable {  // what is not `let` is touched on the queue only
    private let queue: DispatchQueue
    private let open: @Sendable () throws -> SQLiteLogs
    private var logs: SQLiteLogs?
    private var isClosed = false
    /// Counts the connections: each begins to count a file's changes anew. On the thread.
    private(set) var connectionCount = 0

    init(_ label: String, open: @escaping @Sendable () throws -> SQLiteLogs) {
      queue = DispatchQueue(label: label)
      self.open = open
    }

    /// On the thread.
    func connection() throws -> SQLiteLogs {
      if isClosed { throw TopicError.closed }
      if let logs, !logs.database.hasMoved { return logs }
      // Another file has the name now, or none.
      logs = nil
      let logs = try open()
      self.logs = logs
      connectionCount += 1
      return logs
    }

    func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
      try await withCheckedThrowingContinuation { next in
        queue.async { next.resume(with: Result { try body() }) }
      }
    }

    func perform(after delay: Duration? = nil, _ body: @escaping @Sendable () -> Void) {
      guard let delay else { return queue.async(execute: body) }
      queue.asyncAfter(deadline: .now() + .milliseconds(Int(clamping: delay.wholeMilliseconds)), execute: body)
    }

    func close() async {
      await withCheckedContinuation { next in
        queue.async {
          self.isClosed = true
          self.logs = nil
          next.resume()
        }
      }
    }
  }
#endif
