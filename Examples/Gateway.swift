import Sluice

// A WebSocket face for a TCP service: bytes pass as they come.
func gateway() async throws {
  try await WebSocket.serve("ws://127.0.0.1:8000") { ws in
    let service = try await TCP.connect("127.0.0.1", port: 7000)
    try await bridge(service, ws, framing: .none, kind: .binary)
  }
}
