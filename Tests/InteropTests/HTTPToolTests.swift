import Testing

@Suite("The tool and requests", .timeLimit(.minutes(15)))
struct HTTPToolTests {
  @Test("responses, requests and a real server, on the release build", arguments: ["responses", "requests", "nginx"])
  func scenario(name: String) async throws {
    try await runToolScenario(name, of: "exchanges.py")
  }
}
