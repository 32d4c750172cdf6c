import Sluice

// Transforms, and a file at the end.
func recorder() async throws {
  let feed = try await WebSocket.connect("ws://127.0.0.1:8000/feed", protocols: ["ticks"])
  try await feed.map { $0.text.uppercased() }.pipe(through: .lines).pipe(File.create("ticks.log"))
}
