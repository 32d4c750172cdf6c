import Sluice
import SluiceTestSupport
import Testing

/// Runs one scenario of a script beside this file, in `Tool`, against the tool's release build; for five minutes at the most.
func runToolScenario(_ name: String, of script: String, _ arguments: [String] = []) async throws {
  let child = try await ChildProcess.spawn(
    [
      "/bin/sh", "-c", "exec timeout 300 python3 \"$@\" 2>&1", "sh",
      "\(Repository.root)/Tests/InteropTests/Tool/\(script)", name,
      Repository.tool,
    ] + arguments,
    environment: Repository.environment)
  var output = ""
  do {
    while let chunk = try await child.read() { output += chunk.string }
  } catch {
    Issue.record("\(name): \(error)\n\(output)")
  }
}

/// The same with certificates of this run, and the Python that has the peers' modules.
func runToolScenarioWithPeers(_ name: String, of script: String) async throws {
  let certificates = try await Certificates.load()
  try await runToolScenario(name, of: script, ["\(certificates.folder)", "\(Repository.build)/peers/venv/bin/python"])
}
