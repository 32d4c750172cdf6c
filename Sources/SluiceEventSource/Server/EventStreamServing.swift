import Logging
import SluiceHTTP
import SluiceStreams

extension EventStreamConnection: ServedConnection {
  package func endForShutdown() { closeWhenFlushed { _ in self.cancelHandler() } }

  package func servingWasCancelled() { abort(CancellationError()) }

  /// The stream has ended without its handler. On the loop.
  func cancelHandler() {
    if options.cancelsHandler { servingTask?.cancel() }
    servingTask = nil
  }

  /// Runs a server's handler, and ends the stream behind it: with what was sent, and as one that is not whole if the handler throws.
  /// - Parameter peer: Where the client is, for the log.
  package func serve(
    logger: Logger, peer: String, _ handler: @Sendable (EventStreamConnection) async throws -> Void
  ) async {
    var failure: (any Error)?
    do { try await handler(self) } catch {
      // What the end of the stream made it throw is no failure.
      if isOpen {
        failure = error
        if !Task.isCancelled {
          logger.error("handler failed", metadata: ["error": "\(error)", "path": "\(path)", "peer": "\(peer)"])
        }
      }
    }
    await ended(after: failure)
  }

  /// Waits until it has ended, whoever began that, and whether the task is cancelled or not: it takes no longer than the client takes what was sent.
  private func ended(after failure: (any Error)?) async {
    await withCheckedContinuation { continuation in
      loop.perform {
        self.servingTask = nil
        self.end(after: failure) { _ in continuation.resume() }
      }
    }
  }
}
