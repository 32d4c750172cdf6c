import Testing

@Suite("What the tool records and plays back", .timeLimit(.minutes(15)))
struct RecordingToolTests {
  @Test("recordings, logs and replays, on the release build", arguments: ["record", "replay", "rooms", "torn"])
  func scenario(name: String) async throws {
    try await runToolScenario(name, of: "recording.py")
  }
}
