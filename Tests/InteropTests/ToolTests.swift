import Testing

@Suite("The tool", .timeLimit(.minutes(15)))
struct ToolTests {
  @Test(
    "its scenarios, on the release build",
    arguments: [
      "echo_200_runs", "exit_codes", "exit_codes_of_peers", "command_lines", "config_files", "closed_descriptors",
      "foreign_names", "file_round_trip", "matrix", "listeners", "null_takes_everything", "one_message_and_linger",
      "interrupt",
      "early_signals", "line_forms", "network",
      "terminal_escapes", "framings", "compression", "origins", "option_scopes", "refusals",
      "lost_handshakes", "text_that_is_none", "hosts", "keepalive",
    ])
  func scenario(name: String) async throws {
    try await runToolScenario(name, of: "scenarios.py")
  }
}
