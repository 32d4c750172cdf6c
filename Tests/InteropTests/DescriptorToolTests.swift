import Testing

@Suite("The tool and its descriptors", .timeLimit(.minutes(15)))
struct DescriptorToolTests {
  @Test(
    "its scenarios with what others share, what is no file, and what runs out, on the release build",
    arguments: [
      "shared_flags", "readers_that_go", "no_input", "named_pipes", "few_descriptors", "visitors_that_only_look",
      "hang_up", "unix_paths",
    ])
  func scenario(name: String) async throws {
    try await runToolScenario(name, of: "descriptors.py")
  }
}
