import Testing

@Suite("The tool and terminals", .timeLimit(.minutes(15)))
struct TerminalToolTests {
  @Test("commands in terminals, and the user's own, on the release build", arguments: ["commands", "served", "own"])
  func scenario(name: String) async throws {
    try await runToolScenario(name, of: "terminals.py")
  }
}
