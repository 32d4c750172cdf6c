import Logging
import SluiceStreams
import SluiceWebSocketProtocol

/// What the connections of one loop share that a server has accepted, so that none holds the memory of it; a client has one of its own.
package final class ConnectionContext: @unchecked Sendable {  // changed on its loop only
  package let loop: any Loop
  private let turns: (any EndOfTurnCancelling)?
  /// The loop's, at hand for each frame.
  let scratch: ScratchBuffers
  let role: WebSocketRole
  let options: WebSocketOptions
  /// A client's only: a server's frames are not masked.
  let maskingKeys: MaskingKeys?
  /// What a server does with each connection.
  package var serving: Serving?

  package init(_ role: WebSocketRole, _ options: WebSocketOptions, on loop: any Loop) {
    self.role = role
    self.options = options
    self.loop = loop
    turns = loop as? any EndOfTurnCancelling
    scratch = loop.scratch
    maskingKeys = role == .client ? MaskingKeys() : nil
  }

  // Not inlined: what is called in a method of its own object need not be counted.

  var isOnLoop: Bool {
    @inline(never) get { loop.isCurrent }
  }

  @inline(never)
  func flushAtEndOfTurn(_ socket: WebSocket) { loop.atEndOfTurn(socket) }

  @inline(never)
  func cancelEndOfTurn(_ socket: WebSocket) -> Bool { turns?.cancelEndOfTurn(socket) ?? false }

  @inline(never)
  func takeScratch() -> BytesBuilder { scratch.take() }

  func giveBack(_ gathered: consuming BytesBuilder) { scratch.give(gathered) }

  /// Sends what was gathered in `takeScratch`.
  /// - Returns: whether `sendAtOnce` has taken all of it.
  @inline(never)
  func send(_ gathered: consuming BytesBuilder, to transport: WebSocket.Transport) throws -> Bool {
    try transport.sendGathered(gathered, backTo: scratch)
  }

  package final class Serving: Sendable {
    /// Whose connections these are.
    package let service: any AnyObject & Sendable
    let logger: Logger
    let handler: @Sendable (WebSocket) async throws -> Void
    /// Is told of each whose handler has returned.
    let didEnd: @Sendable (WebSocket) -> Void

    package init(
      _ service: any AnyObject & Sendable, _ logger: Logger,
      _ handler: @escaping @Sendable (WebSocket) async throws -> Void, didEnd: @escaping @Sendable (WebSocket) -> Void
    ) {
      self.service = service
      self.logger = logger
      self.handler = handler
      self.didEnd = didEnd
    }
  }
}
