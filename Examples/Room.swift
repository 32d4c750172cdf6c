import Sluice

// What one says, all hear.
func room() async throws {
  let room = WebSocketBroadcast()
  try await WebSocket.serve("ws://127.0.0.1:8000") { ws in
    try await room.serve(ws) {
      for try await message in ws { try await room.write(message) }
    }
  }
}
