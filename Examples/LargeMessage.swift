import Sluice

// A message of any length goes to a file in constant memory.
func largeMessage() async throws {
  let ws = try await WebSocket.connect("ws://127.0.0.1:8000/export")
  try await ws.parts.map { $0.bytes }.pipe(File.create("export.bin"))
}
