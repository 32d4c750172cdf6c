import Testing

@Suite("The tool and terminals", .timeLimit(.minutes(15)))
struct TerminalToolTests {
  @Test(
    "commands in terminals, the user's own, and serial lines, on the release build",
    arguments: ["commands", "background", "served", "own", "far", "page", "serial"])
  func scenario(name: String) async throws {
    try await runToolScenario(name, of: "terminals.py")
  }
}
