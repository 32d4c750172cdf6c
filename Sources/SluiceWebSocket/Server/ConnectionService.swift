import Logging
import SluiceIO
import SluiceStreams
import SluiceWebSocketProtocol

/// Runs the handlers of one loop's connections.
///
/// Handlers are tasks of their own rather than children: at shutdown each connection is closed first, and its handler sees an
/// ordinary end; only what does not end is cancelled.
final class ConnectionService: @unchecked Sendable {  // `open` and `whenEmpty` are touched on the loop only
  private let accepted: AcceptedWebSockets
  private let closeTimeout: Duration
  private let logger: Logger
  private let handler: @Sendable (WebSocket) async throws -> Void
  private var open: [ObjectIdentifier: Connection] = [:]
  private var whenEmpty: CheckedContinuation<Void, Never>?

  private struct Connection {
    let socket: WebSocket
    var task: Task<Void, Never>?
  }

  init(
    accepted: AcceptedWebSockets, closeTimeout: Duration, logger: Logger,
    handler: @escaping @Sendable (WebSocket) async throws -> Void
  ) {
    self.accepted = accepted
    self.closeTimeout = closeTimeout
    self.logger = logger
    self.handler = handler
  }

  /// On the loop, until the task is cancelled or the listener ends.
  func run() async throws {
    let result: Result<Void, any Error>
    do {
      while let socket = try await accepted.read() { serve(socket) }
      result = .success(())
    } catch {
      result = .failure(error)
    }
    accepted.cancel(nil)
    if Task.isCancelled { shutDown() }
    await allEnded()
    try result.get()
  }

  private func serve(_ socket: WebSocket) {
    let id = ObjectIdentifier(socket)
    open[id] = Connection(socket: socket)
    open[id]?.task = Task(executorPreference: accepted.loop) {
      await self.handle(socket)
      self.didEnd(id)
    }
  }

  // An idle connection costs what its task's frames do: what is done once it has ended stands apart, in frames that exist
  // only then.
  private func handle(_ socket: WebSocket) async {
    var failure: (any Error)?
    do { try await handler(socket) } catch { failure = error }
    await close(socket, after: failure)
  }

  @inline(never)
  private func close(_ socket: WebSocket, after failure: (any Error)?) async {
    if let failure { report(failure, of: socket) }
    let code: CloseCode = Task.isCancelled ? .goingAway : failure == nil ? .normal : .internalError
    try? await socket.close(as: code, "")
  }

  @inline(never)
  private func report(_ failure: any Error, of socket: WebSocket) {
    if socket.isEnd(failure) {
      logger.debug("connection ended", metadata: ["error": "\(failure)"])
    } else if !Task.isCancelled {
      logger.error("handler failed", metadata: ["error": "\(failure)"])
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
    for connection in open.values { connection.socket.closeGoingAway() }
    // A handler that waits for something else than its connection is cancelled in the end.
    _ = accepted.loop.schedule(after: closeTimeout) {
      for connection in self.open.values { connection.task?.cancel() }
    }
  }

  private func allEnded() async {
    if open.isEmpty { return }
    await withCheckedContinuation { whenEmpty = $0 }
  }
}
