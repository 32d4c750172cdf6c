import Sluice
import Testing

@Suite("The tool", .timeLimit(.minutes(10)))
struct ToolTests {
  @Test(
    "its scenarios, on the release build",
    arguments: [
      "echo_200_runs", "exit_codes", "exit_codes_of_peers", "command_lines", "closed_descriptors",
      "file_round_trip", "matrix", "listeners", "null_takes_everything", "one_message_and_linger", "interrupt",
      "terminal_escapes", "framings", "compression", "origins", "option_scopes",
    ])
  func scenario(name: String) async throws {
    let child = try await ChildProcess.spawn(
      [
        "/bin/sh", "-c",
        "exec python3 '\(Repository.root)/Tests/InteropTests/Tool/scenarios.py' \(name) '\(Repository.tool)' 2>&1",
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
