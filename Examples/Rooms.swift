import Sluice
import SluiceTopics
import SluiceTopicsConnections

/// A chat, a feed, and answers that are written while they are read, on topics: with `Topics.redis` instead of `Topics.memory`, over any number of servers.
@Sendable func rooms() async throws {
  let topics = Topics.memory()
  let server = try await HTTPServer.listen("http://127.0.0.1:8000")
  try await server.run(routes: [
    // Who comes gets the last 50 messages, and what is said from then on. Who comes back goes on where it was.
    .webSocket("/rooms/{room}") { ws in
      let room = try topics.topic("rooms." + (ws.parameters["room"] ?? ""))
      try await bridge(ws, room.joined(from: ws.resumePosition ?? .last(50)))
    },
    // Each event's id is its position: a browser that comes back says it by itself.
    .events("/feed") { events in
      try await topics.topic("feed").messages(from: events.resumePosition ?? .now).pipe(events)
    },
    // An answer that takes its time: readers come and go, and each sees all of it.
    .events("/answers/{id}") { events in
      let answer = try topics.topic("answers." + (events.parameters["id"] ?? ""))
      try await answer.messages(from: events.resumePosition ?? .earliest).pipe(events)
    },
    .respond("/answers/{id}/ask") { request in
      let sink = try topics.topic("answers." + (request.parameters["id"] ?? "")).writer()
      for word in ["Positions ", "survive ", "their ", "servers."] {
        try await sink.write(TopicContent(word))
      }
      try await sink.write(TopicContent("", event: "done"))
      try await sink.close()
      return .text("written\n")
    },
  ])
}
