// Hummingbird's router beside Sluice's WebSockets and event streams, on one port: swift run hummingbird-chat [PORT]
import Hummingbird
import HummingbirdCore
import Sluice

let router = Router()
router.get("/") { _, _ in "a room; come with a WebSocket\n" }

let room = WebSocketBroadcast()
/// What is said in the room, for those who only listen.
let feed = EventBroadcast()
let port = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 8000

let app = Application(
  router: router,
  server: HTTPServerBuilder { responder in
    WebSocketChannel(responder: responder) { events in
      try await feed.serve(events)
    } handler: { ws in
      try await room.serve(ws) {
        for try await message in ws {
          try await room.write(message)
          try await feed.write(ServerSentEvent(message.text))
        }
      }
    }
  },
  configuration: .init(address: .hostname("127.0.0.1", port: port)),
  onServerRunning: { channel in
    try? await StandardStream.output().write(Bytes("listening on \(channel.localAddress?.port ?? 0)\n"))
  })
try await app.runService()
