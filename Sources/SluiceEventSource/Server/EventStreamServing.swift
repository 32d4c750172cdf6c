import Logging
import SluiceListen
import SluiceStreams

extension EventStreamConnection: ServedConnection {
  package func endForShutdown() { closeWhenFlushed { _ in } }

  /// Runs a server's handler, and ends the stream behind it; cuts it when the handler throws.
  package func serve(
    logger: Logger, _ handler: @Sendable (EventStreamConnection) async throws -> Void
  ) async {
    do {
      try await handler(self)
      try await close()
    } catch {
      if await isOpen && !Task.isCancelled { logger.error("handler failed", metadata: ["error": "\(error)"]) }
      abort(error)
    }
  }
}
