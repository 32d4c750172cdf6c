import Sluice

// A socket on the terminal: a line in is a message out, and back.
func terminal() async throws {
  let ws = try await WebSocket.connect("ws://127.0.0.1:8000")
  try await bridge(StandardIO(), ws)
}
