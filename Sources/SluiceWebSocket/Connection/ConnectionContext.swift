import Logging
import SluiceListen
import SluiceStreams

/// What the connections of one loop share that a server has accepted, so that none holds the memory of it; a client has one of its own.
final class ConnectionContext: @unchecked Sendable {  // changed on its loop only
  let loop: any Loop
  /// The loop's, at hand for each frame.
  let scratch: ScratchBuffers
  let options: WebSocketOptions
  /// What a server does with each connection.
  var serving: Serving?

  init(_ options: WebSocketOptions, on loop: any Loop) {
    self.options = options
    self.loop = loop
    scratch = loop.scratch
  }

  final class Serving: Sendable {
    let service: ConnectionService<AcceptedWebSockets>
    let logger: Logger
    let handler: @Sendable (WebSocket) async throws -> Void

    init(
      _ service: ConnectionService<AcceptedWebSockets>, _ logger: Logger,
      _ handler: @escaping @Sendable (WebSocket) async throws -> Void
    ) {
      self.service = service
      self.logger = logger
      self.handler = handler
    }
  }
}
