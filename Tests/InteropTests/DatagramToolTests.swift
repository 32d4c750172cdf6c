import Testing

@Suite("The tool and datagrams", .timeLimit(.minutes(15)))
struct DatagramToolTests {
  @Test("UDP and Unix datagrams, on the release build", arguments: ["client", "server"])
  func scenario(name: String) async throws {
    try await runToolScenario(name, of: "datagrams.py")
  }
}
