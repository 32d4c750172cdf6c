import Logging
import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

extension WebSocket: ServedConnection {
  package func endForShutdown() {
    close(as: .goingAway, "") { _ in }
  }

  /// The server stops: closes with 1001, without waiting. `WebSocket.serve` does so by itself.
  public func closeGoingAway() {
    loop.perform { self.endForShutdown() }
  }

  /// Runs a server's handler, and closes behind it: with 1000, or with 1011 when it throws, or with 1001 when it was cancelled. For servers
  /// that `accept` connections; what a handler throws goes to the log, and not to the peer.
  // An idle connection costs what its task's frames do: what is done once it has ended stands apart, in frames that exist
  // only then.
  public func serve(logger: Logger, _ handler: @Sendable (WebSocket) async throws -> Void) async {
    var failure: (any Error)?
    do { try await handler(self) } catch { failure = error }
    await close(logger, after: failure)
  }

  /// Begins to serve this connection as its server does. On the loop.
  package func startServing() -> Task<Void, any Error> {
    serving.isRunning = true
    // It throws nothing; but for a closure that may throw, and that holds one object, the library's closures around it take no memory.
    return Task(executorPreference: loop) { () async throws in await self.serveInTask() }
  }

  /// The same for a server that is another library's. On the loop.
  package func startServing(
    logger: Logger, _ handler: @escaping @Sendable (WebSocket) async throws -> Void
  ) -> Task<Void, any Error> {
    context.serving = ConnectionContext.Serving(ForeignService.shared, logger, handler) { _ in }
    let task = startServing()
    servingTask = task
    return task
  }

  private final class ForeignService: Sendable { static let shared = ForeignService() }

  @inline(__always)
  private func serveInTask() async {
    guard let serving = context.serving else { return }
    var failure: (any Error)?
    do { try await whileServed(serving.handler) } catch { failure = error }
    await close(serving.logger, after: failure)
    slot = nil
    serving.didEnd(self)
  }

  /// The connection is over, and its handler runs on. One that reads finds the end there; the task of one that does not is cancelled: at once if
  /// it has read nothing and nothing came, otherwise when it has had time to come back to what it reads.
  func tellHandler() {
    if incoming.isEndTold { return }
    let time: Duration = !incoming.ahead.isEmpty ? options.closeTimeout : incoming.hasBeenRead ? Self.returnTime : .zero
    let unread = incoming.ahead.byteCount
    _ = loop.schedule(after: time) { [weak self] in self?.cancelHandler(ifStillUnread: unread) }
  }

  /// For how long a handler that has read all that came may be busy with it before it is cancelled.
  private static let returnTime = Duration.seconds(2)

  private func cancelHandler(ifStillUnread unread: Int) {
    guard serving.isRunning, !incoming.isEndTold, !hasReader else { return }
    if incoming.ahead.byteCount != unread { return tellHandler() }
    Reached.mark("ws.handlerCancelled")
    servingTask?.cancel()
  }

  @inline(never)
  private func close(_ logger: Logger, after failure: (any Error)?) async {
    serving.isRunning = false
    serving.identity = .nobody
    if let failure { report(failure, to: logger) }
    if Task.isCancelled { return await closeInCancelledTask(as: .goingAway) }
    try? await close(as: failure == nil ? .normal : .internalError, "")
  }

  /// What a line of the log says of the connection that it is about: never a query or a field, which may be secrets.
  private func about(_ failure: any Error) -> Logger.Metadata {
    [
      "error": "\(failure)", "path": "\(path)",
      "peer": "\(remoteAddress?.description ?? "unknown")",
    ]
  }

  @inline(never)
  private func report(_ failure: any Error, to logger: Logger) {
    if isEnd(failure) {
      logger.debug("connection ended", metadata: ["error": "\(failure)"])
    } else if !Task.isCancelled {
      logger.error("handler failed", metadata: about(failure))
    }
  }
}
