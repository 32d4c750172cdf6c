import SluiceStreams

/// A connection that a server serves.
package protocol ServedConnection: AnyObject, Sendable {
  /// What the service sets, and cancels at the end. On its loop.
  var servingTask: Task<Void, any Error>? { get set }

  /// The server stops: the connection ends as soon as it can in good order. On its loop, without waiting.
  func endForShutdown()

  /// The task that serves it was cancelled. On its loop.
  func servingWasCancelled()
}

extension ServedConnection {
  package func servingWasCancelled() {}
}

/// Runs a task for each of one loop's connections.
///
/// They are tasks of their own rather than children: at shutdown each connection is ended first, and its task sees an
/// ordinary end; only what does not end is cancelled.
package final class ConnectionService<Source: PolledReadableStream>: @unchecked Sendable
where Source.Output: ServedConnection {  // `open` and `whenEmpty` are touched on the loop only
  private let accepted: Source
  private let closeTimeout: Duration
  private let begin: (ConnectionService, Source.Output) -> Task<Void, any Error>?
  private var open: [ObjectIdentifier: Source.Output] = [:]
  private var whenEmpty: CheckedContinuation<Void, Never>?

  /// - Parameters:
  ///   - closeTimeout: Time for the connections to end at shutdown.
  ///   - begin: Makes the task that serves a connection until it is over, and then tells `didEnd`; it is to run on `loop`. An idle connection
  ///     costs the frames of its task: those of a closure that is passed through here would be among them. Or nil, if something else tells
  ///     `didEnd` in time when the connection is over.
  package init(
    _ accepted: Source, closeTimeout: Duration,
    begin: @escaping (ConnectionService, Source.Output) -> Task<Void, any Error>?
  ) {
    self.accepted = accepted
    self.closeTimeout = closeTimeout
    self.begin = begin
  }

  package var loop: any Loop { accepted.loop }

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
    open[ObjectIdentifier(connection)] = connection
    connection.servingTask = begin(self, connection)
  }

  /// A connection is over. On the loop.
  package func didEnd(_ connection: Source.Output) {
    open[ObjectIdentifier(connection)] = nil
    connection.servingTask = nil
    if open.isEmpty {
      whenEmpty?.resume()
      whenEmpty = nil
    }
  }

  private func shutDown() {
    for connection in open.values { connection.endForShutdown() }
    // What waits for something else than its connection is cancelled in the end.
    _ = accepted.loop.schedule(after: closeTimeout) {
      for connection in self.open.values {
        connection.servingTask?.cancel()
        connection.servingWasCancelled()
      }
    }
  }

  private func allEnded() async {
    if open.isEmpty { return }
    await withCheckedContinuation { whenEmpty = $0 }
  }
}
