import Testing

@Suite("The manual's recipes", .timeLimit(.minutes(15)))
struct RecipeToolTests {
  @Test(
    "against the programs that they are for, on the release build",
    arguments: ["ssh", "mqtt", "language_server", "language_model", "vnc", "terminal", "log"])
  func scenario(name: String) async throws {
    try await runToolScenario(name, of: "recipes.py")
  }
}
