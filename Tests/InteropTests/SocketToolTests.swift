import Testing

@Suite("The tool and sockets that it is given", .timeLimit(.minutes(15)))
struct SocketToolTests {
  @Test(
    "socket activation, inetd, and who may use a Unix socket, on the release build",
    arguments: ["given", "inetd", "access"])
  func scenario(name: String) async throws {
    try await runToolScenario(name, of: "sockets.py")
  }
}
