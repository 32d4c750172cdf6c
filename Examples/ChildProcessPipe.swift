import Sluice

// A program between a file and the terminal.
func sortedNames() async throws {
  let sort = try await ChildProcess.spawn(["sort", "-u"])
  async let input: Void = File.open("names.txt").pipe(sort)
  try await sort.pipe(StandardStream.output())
  try await input
}
