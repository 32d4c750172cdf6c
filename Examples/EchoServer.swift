import Sluice

func echoServer() async throws {
  try await WebSocket.serve("ws://127.0.0.1:8000") { ws in
    try await ws.pipe(ws)
  }
}
