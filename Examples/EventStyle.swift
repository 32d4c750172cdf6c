import Sluice

// The browser's style: closures that are called with what happens.
func eventStyle() async throws {
  let ws = WebSocketCallbacks.connect("wss://example.com/feed")
  ws.onOpen { ws.trySend("hello") }
  ws.onMessage { message in print(message.text) }
  ws.onClose { code, reason in print("closed", code, reason) }
  await ws.waitUntilClosed()
}

func eventStyleServer() async throws {
  try await WebSocket.serveCallbacks("ws://127.0.0.1:8000") { ws in
    ws.onMessage { ws.trySend($0) }
  }
}
