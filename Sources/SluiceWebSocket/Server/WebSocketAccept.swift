import SluiceStreams
import SluiceWebSocketProtocol

extension WebSocket {
  /// Does the server's side of the opening handshake on a byte stream that was accepted already: a Unix socket, a tunnel, memory.
  ///
  /// - Throws: `HandshakeRejection` if the request was answered with another status than 101, `WebSocketConnectError` if it did
  ///   not come in time or the stream ended before, or what the stream failed with. The stream is closed then.
  public static func accept(
    over transport: some PolledDuplexStream<Bytes, Bytes>, options: WebSocketServerOptions = WebSocketServerOptions()
  ) async throws -> WebSocket {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        transport.loop.perform {
          ServerOpening(transport: transport, path: nil, options: options) { _, result in
            continuation.resume(with: result)
          }.start()
        }
      }
    } onCancel: {
      transport.abort(CancellationError())
    }
  }
}
