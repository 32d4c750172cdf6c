import Testing

@Suite("The tool and topics", .timeLimit(.minutes(10)))
struct TopicToolTests {
  @Test(
    "its scenarios, on the release build, with a file and a real Redis",
    arguments: ["file", "reading", "redis", "limits", "outage", "feeds", "rooms", "signals", "care", "command_lines"])
  func scenario(name: String) async throws {
    try await runToolScenario(name, of: "topics.py")
  }
}
