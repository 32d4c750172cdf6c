import Testing

@Suite("The tool's completions and its manual page", .timeLimit(.minutes(15)))
struct CompletionToolTests {
  @Test("in real shells, and as a formatter reads them", arguments: ["bash", "zsh", "fish", "page"])
  func scenario(name: String) async throws {
    try await runToolScenario(name, of: "completions.py")
  }
}
