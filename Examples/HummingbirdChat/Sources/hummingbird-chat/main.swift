// A chat room in Hummingbird: swift run hummingbird-chat [PORT]
import Hummingbird
import Sluice
import SluiceHummingbird

let room = WebSocketBroadcast()
/// What is said in the room, for those who only listen.
let feed = EventBroadcast()

let router = Router()
router.get("/") { _, _ in "a room: a WebSocket at /room, an event stream at /feed\n" }
router.webSocket("/room") { ws, _, _ in
  try await room.serve(ws) {
    for try await message in ws {
      try await room.write(message)
      try await feed.write(ServerSentEvent(message.text))
    }
  }
}
router.events("/feed") { events, _, _ in try await feed.serve(events) }

let port = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 8000
let app = Application(
  router: router, server: .http1WebSockets(), configuration: .init(address: .hostname("127.0.0.1", port: port)),
  onServerRunning: { channel in
    try? await StandardStream.output().write(Bytes("listening on \(channel.localAddress?.port ?? 0)\n"))
  })
try await app.runService()
