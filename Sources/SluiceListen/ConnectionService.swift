import SluiceStreams

/// A connection that a server serves.
package protocol ServedConnection: AnyObject, Sendable {
  /// The server stops: the connection ends as soon as it can in good order. On its loop, without waiting.
  func endForShutdown()
}

/// Runs a task for each of one loop's connections.
///
/// They are tasks of their own rather than children: at shutdown each connection is ended first, and its task sees an
/// ordinary end; only what does not end is cancelled.
package final class ConnectionService<Source: PolledReadableStream>: @unchecked Sendable
where Source.Output: ServedConnection {  // `open` and `whenEmpty` are touched on the loop only
  private let accepted: Source
  private let closeTimeout: Duration
  private let serve: @Sendable (Source.Output) async -> Void
  private var open: [ObjectIdentifier: Connection] = [:]
  private var whenEmpty: CheckedContinuation<Void, Never>?

  private struct Connection {
    let connection: Source.Output
    var task: Task<Void, Never>?
  }

  /// - Parameters:
  ///   - closeTimeout: Time for the connections to end at shutdown.
  ///   - serve: What is done with a connection, until it is over. An idle connection costs what the frames of this do.
  package init(
    _ accepted: Source, closeTimeout: Duration, serve: @escaping @Sendable (Source.Output) async -> Void
  ) {
    self.accepted = accepted
    self.closeTimeout = closeTimeout
    self.serve = serve
  }

  /// On the loop, until the task is cancelled or the source fails, when the connections are ended, or until the source has ended and they have
  /// ended by themselves.
  package func run() async throws {
    do {
      while let connection = try await accepted.read() { start(connection) }
    } catch {
      accepted.cancel(nil)
      shutDown()
      await allEnded()
      throw error
    }
    accepted.cancel(nil)
    await withTaskCancellationHandler {
      await allEnded()
    } onCancel: {
      accepted.loop.perform { self.shutDown() }
    }
  }

  private func start(_ connection: Source.Output) {
    let id = ObjectIdentifier(connection)
    open[id] = Connection(connection: connection)
    open[id]?.task = Task(executorPreference: accepted.loop) {
      await self.serve(connection)
      self.didEnd(id)
    }
  }

  private func didEnd(_ id: ObjectIdentifier) {
    open[id] = nil
    if open.isEmpty {
      whenEmpty?.resume()
      whenEmpty = nil
    }
  }

  private func shutDown() {
    for connection in open.values { connection.connection.endForShutdown() }
    // What waits for something else than its connection is cancelled in the end.
    _ = accepted.loop.schedule(after: closeTimeout) {
      for connection in self.open.values { connection.task?.cancel() }
    }
  }

  private func allEnded() async {
    if open.isEmpty { return }
    await withCheckedContinuation { whenEmpty = $0 }
  }
}
