// topics-server REDIS-URL: event streams at /feed and a chat at /rooms/{room}, on topics that other servers share. Prints its URL.
// topics-server append FILE NAME: appends to the topic `log` of a file, one message after the other, and prints where each is stored.
import Sluice
import SluiceTopics
import SluiceTopicsConnections
import SluiceTopicsRedis
import SluiceTopicsSQLite

#if SQLite
  @Sendable func append() async throws {
    let arguments = CommandLine.arguments
    let topic = try await Topics.sqlite(arguments[2]).topic("log")
    let output = StandardStream.output()
    for number in 0... {
      let text = "\(arguments[3]) \(number)"
      try await output.write(Bytes("\(try await topic.append(TopicContent(text))) \(text)\n"))
    }
  }
  if CommandLine.arguments.count == 4 { try UVLoop.runShared(append) }
#endif

#if Redis
  @Sendable func serve() async throws {
    let topics = try await Topics.redis(CommandLine.arguments.dropFirst().first ?? "redis://127.0.0.1:6379")
    let server = try await HTTPServer.listen("http://127.0.0.1:0")
    try await StandardStream.output().write(Bytes("http://127.0.0.1:\(server.port)\n"))
    try await server.run(routes: [
      .events("/feed") { events in
        try await topics.topic("feed").messages(from: events.resumePosition ?? .now).pipe(events)
      },
      .webSocket("/rooms/{room}") { ws in
        let room = try topics.topic("rooms." + (ws.parameters["room"] ?? ""))
        try await bridge(ws, room.joined(from: ws.resumePosition ?? .last(50)))
      },
    ])
  }
  try UVLoop.runShared(serve)
#else
  print("built without the trait Redis")
#endif
