import Testing

@Suite("The tool and event streams", .timeLimit(.minutes(15)))
struct EventToolTests {
  @Test(
    "its scenarios, on the release build",
    arguments: ["finite", "python_server", "types", "long_lines", "post", "nginx", "pages", "ends", "costs"])
  func scenario(name: String) async throws {
    try await runToolScenario(name, of: "events.py")
  }
}
