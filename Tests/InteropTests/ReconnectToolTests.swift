import Sluice
import SluiceTestSupport
import Testing

@Suite("The tool with --reconnect", .timeLimit(.minutes(10)))
struct ReconnectToolTests {
  @Test(
    "its scenarios with servers that go away and come back, on the release build",
    arguments: [
      "exactly_once", "killed_servers", "slow_servers", "endings", "event_streams",
    ])
  func scenario(name: String) async throws {
    let certificates = try await Certificates.load()
    let script = "\(Repository.root)/Tests/InteropTests/Tool/reconnect.py"
    let python = "\(Repository.build)/peers/venv/bin/python"
    let child = try await ChildProcess.spawn(
      [
        "/bin/sh", "-c",
        "exec python3 '\(script)' \(name) '\(Repository.tool)' '\(certificates.folder)' '\(python)' 2>&1",
      ],
      environment: Repository.environment)
    var output = ""
    do {
      while let chunk = try await child.read() { output += chunk.string }
    } catch {
      Issue.record("\(name): \(error)\n\(output)")
    }
  }
}
