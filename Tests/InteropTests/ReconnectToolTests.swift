import Testing

@Suite("The tool with --reconnect", .timeLimit(.minutes(15)))
struct ReconnectToolTests {
  @Test(
    "its scenarios with servers that go away and come back, on the release build",
    arguments: [
      "exactly_once", "killed_servers", "slow_servers", "endings", "event_streams",
    ])
  func scenario(name: String) async throws {
    try await runToolScenarioWithPeers(name, of: "reconnect.py")
  }
}
