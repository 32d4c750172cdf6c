import Testing

@Suite("The tool and datagrams", .timeLimit(.minutes(15)))
struct DatagramToolTests {
  @Test(
    "UDP and Unix datagrams, and connections of messages, on the release build",
    arguments: ["client", "server", "unix_server", "seqpacket"])
  func scenario(name: String) async throws {
    try await runToolScenario(name, of: "datagrams.py")
  }
}
