import Logging
import SluiceListen
import SluiceStreams

extension EventStreamConnection: ServedConnection {
  /// Without the query, which may hold secrets.
  private var path: String { request.path?.wire.prefix { $0 != UInt8(ascii: "?") }.text ?? "/" }

  package func endForShutdown() { closeWhenFlushed { _ in } }

  /// Runs a server's handler, and ends the stream behind it; cuts it when the handler throws.
  /// - Parameter peer: Where the client is, for the log.
  package func serve(
    logger: Logger, peer: String, _ handler: @Sendable (EventStreamConnection) async throws -> Void
  ) async {
    do {
      try await handler(self)
      try await close()
    } catch {
      if await isOpen && !Task.isCancelled {
        logger.error("handler failed", metadata: ["error": "\(error)", "path": "\(path)", "peer": "\(peer)"])
      }
      abort(error)
    }
  }
}
