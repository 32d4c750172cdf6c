import Testing

@Suite("What the tool serves to many", .timeLimit(.minutes(15)))
struct ServingToolTests {
  @Test(
    "rooms, shared endpoints, routes and limits, on the release build",
    arguments: ["rooms", "slow", "shared", "routes", "passed_paths", "limits", "greetings", "metrics", "loops"])
  func scenario(name: String) async throws {
    try await runToolScenario(name, of: "serving.py")
  }
}
