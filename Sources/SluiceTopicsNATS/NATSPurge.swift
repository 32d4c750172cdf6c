#if NATS
  import SluiceStreams
  import SluiceTopics
  import Synchronization

  /// Takes from a stream the records that count as gone, one step after the other. If one does not succeed, the next does what it has not done.
  ///
  /// Servers before NATS 2.10 that restart carry out again what their log of a cluster has, and instead of a purge up to a sequence they purge all that was there at the time. So in a
  /// stream that has copies, records are deleted there one by one.
  final class NATSPurge: Sendable {
    private struct State {
      /// Records before it are to go; nil if that was begun.
      var wanted: UInt64?
      var isRunning = false
      /// Whether purging is safe with the server of a connection.
      var purges: (Bool, connection: ObjectIdentifier)?
    }
    private let state = Mutex(State())
    private let stream: String
    private let names: NATSNames

    /// Answers that are waited for at a time.
    private static let window: UInt64 = 64

    init(_ stream: String, _ names: NATSNames) {
      self.stream = stream
      self.names = names
    }

    func remove(before sequence: UInt64, by connection: NATSConnection) {
      let begins = state.withLock { state in
        state.wanted = sequence
        defer { state.isRunning = true }
        return !state.isRunning
      }
      if begins { _ = startTask { await self.run(by: connection) } }
    }

    private func run(by connection: NATSConnection) async {
      while let wanted = next() {
        do { try await remove(before: wanted, connection) } catch {
          return state.withLock { $0.isRunning = false }
        }
      }
    }

    /// - Returns: nil if there is nothing to do any more.
    private func next() -> UInt64? {
      state.withLock { state in
        state.isRunning = state.wanted != nil
        return state.wanted.take()
      }
    }

    private func remove(before sequence: UInt64, _ connection: NATSConnection) async throws {
      let id = ObjectIdentifier(connection)
      if state.withLock({ $0.purges.map { $0 && $1 == id } ?? false }) { return try await purge(sequence, connection) }
      let info = try await connection.ask(names.request("STREAM.INFO", stream), "")
      // Whose answers have the time is 2.10 or later.
      let purges = info["ts"] != nil || (info["config"]?["num_replicas"]?.number ?? 1) <= 1
      state.withLock { $0.purges = (purges, id) }
      if purges { return try await purge(sequence, connection) }
      guard var first = info["state"]?["first_seq"]?.number else { return }
      while first < sequence {
        let end = min(first + Self.window, sequence)
        let request = names.request("STREAM.MSG.DELETE", stream)
        let answers = (first..<end).map { connection.begin(request, Bytes("{\"seq\":\($0),\"no_erase\":true}")) }
        for answer in answers { _ = try await answer.value() }
        first = end
      }
    }

    private func purge(_ sequence: UInt64, _ connection: NATSConnection) async throws {
      _ = try await connection.ask(names.request("STREAM.PURGE", stream), "{\"seq\":\(sequence)}")
    }
  }
#endif
