import SluiceIO
import SluiceWebSocket

extension WebSocketCallbacks {
  /// Connects; `onOpen` or `onError` and `onClose` tell how that went. Messages that are sent before it is open leave when it is.
  public static func connect(
    _ url: String, protocols: [String] = [], options: WebSocketClientOptions = WebSocketClientOptions(),
    on loop: UVLoop = .shared
  ) -> WebSocketCallbacks {
    opening(on: loop, options.connection) {
      try await WebSocket.connect(url, protocols: protocols, options: options, on: loop)
    }
  }
}
