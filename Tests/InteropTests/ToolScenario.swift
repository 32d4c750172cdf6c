import Sluice
import SluiceTestSupport
import Synchronization
import Testing

/// Runs one scenario of a script beside this file, in `Tool`, against the tool's release build; for five minutes at the most. Where tests run in
/// parallel, some run at once: they spend most of their time waiting.
func runToolScenario(_ name: String, of script: String, _ arguments: [String] = []) async throws {
  await scenarioPlaces.take()
  defer { scenarioPlaces.give() }
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

private let scenarioPlaces = Places(4)

/// So many at once, in the order of their coming.
private final class Places: Sendable {
  private struct State {
    var free: Int
    var waiting: [CheckedContinuation<Void, Never>] = []
  }
  private let state: Mutex<State>

  init(_ count: Int) { state = Mutex(State(free: count)) }

  func take() async {
    await withCheckedContinuation { continuation in
      let isFree = state.withLock { state in
        if state.free == 0 {
          state.waiting.append(continuation)
          return false
        }
        state.free -= 1
        return true
      }
      if isFree { continuation.resume() }
    }
  }

  func give() {
    let next = state.withLock { state -> CheckedContinuation<Void, Never>? in
      if state.waiting.isEmpty {
        state.free += 1
        return nil
      }
      return state.waiting.removeFirst()
    }
    next?.resume()
  }
}
