import Testing

@Suite("The tool's commands", .timeLimit(.minutes(15)))
struct CommandToolTests {
  @Test(
    "its scenarios with exec:, on the release build",
    arguments: ["left_behind", "left_behind_without_clients", "guard", "statuses", "variables", "first_process"])
  func scenario(name: String) async throws {
    try await runToolScenario(name, of: "commands.py")
  }
}
