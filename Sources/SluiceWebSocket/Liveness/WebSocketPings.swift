import SluiceStreams
import SluiceWebSocketProtocol

extension WebSocket {
  /// Sends a ping and waits for its pong.
  ///
  /// The pong is found even while nobody reads, behind messages of up to the write watermark's number of bytes.
  /// - Parameter payload: Up to 125 bytes; by default a number that is new on this connection.
  /// - Returns: the round trip.
  /// - Throws: `WebSocketError.pingTooLong`, `.unsupported` on hixie-75 and hixie-76, `.noPong` if the connection ends first.
  @discardableResult
  public func ping(_ payload: Bytes? = nil) async throws -> Duration {
    if let payload, payload.count > 125 { throw WebSocketError.pingTooLong(byteCount: payload.count) }
    guard opening.version.hasOpcodes else { throw WebSocketError.unsupported("a ping", opening.version) }
    let ping = PendingPing()
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        loop.perform { self.startPing(ping, payload, continuation) }
      }
    } onCancel: {
      loop.perform { self.controls.pings.cancel(ping) }
    }
  }

  /// Sends a pong that nobody asked for, which RFC 6455 §5.5.3 allows as a sign of life in one direction.
  /// One that finds no room waits for it, and a later one, also the answer to a ping, takes its place.
  /// - Parameter payload: Up to 125 bytes.
  /// - Throws: `WebSocketError.pingTooLong`, `.unsupported`; `StreamError.closed` after a Close.
  public func pong(_ payload: Bytes = Bytes()) async throws {
    guard payload.count <= 125 else { throw WebSocketError.pingTooLong(byteCount: payload.count) }
    guard opening.version.hasOpcodes else { throw WebSocketError.unsupported("a pong", opening.version) }
    try await loop.run {
      guard self.isOpen else { throw StreamError.closed }
      self.sendPong(payload)
    }
  }

  private func startPing(
    _ ping: PendingPing, _ payload: Bytes?, _ continuation: CheckedContinuation<Duration, any Error>
  ) {
    if ping.isCancelled { return continuation.resume(throwing: CancellationError()) }
    guard isOpen else {
      return continuation.resume(throwing: WebSocketError.noPong)
    }
    let payload = payload ?? controls.pings.nextPayload()
    sendControl(.ping, payload)
    controls.pings.add(ping, payload, at: loop.now, continuation)
    readAheadIfNeeded()
  }
}
