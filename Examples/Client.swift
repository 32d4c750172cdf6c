import Sluice

func client() async throws {
  let ws = try await WebSocket.connect("ws://127.0.0.1:8000")
  try await ws.send("hello")
  for try await message in ws {
    print(message.text)
    try await ws.close(.normal, "that was all")
  }
}
