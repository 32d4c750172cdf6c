import Testing

@Suite("The tool and topics", .timeLimit(.minutes(15)))
struct TopicToolTests {
  @Test(
    "its scenarios, on the release build, with files and real servers of Redis and NATS",
    arguments: ["file", "reading", "redis", "nats", "secure", "clusters", "command_lines"]
      + ["limits", "outage", "feeds", "rooms", "signals", "care"].flatMap { [$0, $0 + "@nats"] })
  func scenario(name: String) async throws {
    try await runToolScenario(name, of: "topics.py")
  }
}
