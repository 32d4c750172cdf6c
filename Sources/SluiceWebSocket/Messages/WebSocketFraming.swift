import SluiceStreams
import SluiceWebSocketProtocol

extension WebSocket {
  /// The frames of RFC 6455 as a stage on any duplex stream of bytes, where there is no opening handshake, or another one has done it.
  ///
  /// ```swift
  /// let messages = try await socket.pipe(through: WebSocket.Framing(.server))
  /// for try await message in messages { try await messages.send(message) }
  /// ```
  /// The other end has the stage of the other role. What comes out is a `WebSocket` like those with a handshake: messages or `parts`, pings,
  /// times, and the closing handshake.
  public struct Framing: Sendable {
    /// A client masks what it sends.
    public var role: WebSocketRole
    public var options: WebSocketOptions

    public init(_ role: WebSocketRole, options: WebSocketOptions = WebSocketOptions()) {
      self.role = role
      self.options = options
    }
  }
}

extension PolledDuplexStream where Output == Bytes, Input == Bytes {
  /// This stream of bytes as a stream of messages, which has it for itself from now on: see `WebSocket.Framing`. A stream of the simple gear comes
  /// to a loop first, by `polled(on:)`.
  /// - Parameter head: What was read of the stream already.
  /// - Throws: `StreamError.concurrentRead` or `.concurrentWrite` if somebody else uses the stream.
  public func pipe(through framing: WebSocket.Framing, head: Bytes = Bytes()) async throws -> WebSocket {
    try await loop.run {
      try WebSocket(
        over: self, role: framing.role, head: head, opening: WebSocketOpening(head: .none, subprotocol: nil),
        in: ConnectionContext(framing.role, framing.options, on: self.loop))
    }
  }
}
