import Sluice

// A WebSocket's messages as an event stream for browsers.
func eventServer() async throws {
  try await EventSource.serve("http://127.0.0.1:8000/feed") { events in
    try await events.send("welcome", event: "greeting")
    let ticks = try await WebSocket.connect("wss://example.com/ticks")
    try await ticks.map { ServerSentEvent($0.text) }.pipe(events)
  }
}

func eventClient() async throws {
  let feed = try await EventSource.connect("http://127.0.0.1:8000/feed")
  for try await event in feed { print(event.id ?? "-", event.data) }
}

// One feed for many browsers.
func eventBroadcast() async throws {
  let broadcast = EventBroadcast(whenSlow: .disconnect)
  async let served: Void = EventSource.serve("http://127.0.0.1:8000/feed") { try await broadcast.serve($0) }
  try await StandardStream.input().lines.map { ServerSentEvent($0) }.pipe(broadcast)
  try await served
}
