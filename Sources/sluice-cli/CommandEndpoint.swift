import ArgumentParser
import Sluice
import SluiceHTTP

/// How long `exec:` commands have to end.
struct CommandOptions: ParsableArguments {
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "When a command is no longer needed, send it and all its children SIGTERM this long after the end of its input, if it has been idle since.",
      valueName: "SECONDS"))
  var terminateAfter: Double = 2

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Send SIGKILL this long after SIGTERM.", valueName: "SECONDS"))
  var killAfter: Double = 2

  @Option(
    help: ArgumentHelp(
      "The size of the window of pty:. Default: that of the terminal that sluice is run in, as it changes, or 80x24.",
      valueName: "COLUMNSxROWS"))
  var window: WindowArgument?

  @Flag(
    help:
      "Pass the terminal that '-' is through: each key as it is typed, without echo, and what comes to it unescaped. As it always is with pty:."
  )
  var raw = false

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("The speed of tty:, in bits per second. Default: as it is set.", valueName: "N"))
  var baud: Int?

  func validate() throws {
    if let baud, baud < 1 { throw ValidationError("--baud must be 1 or more, not \(baud).") }
    try checkSeconds("--terminate-after", terminateAfter, above: -.leastNonzeroMagnitude)
    try checkSeconds("--kill-after", killAfter, above: -.leastNonzeroMagnitude)
  }

  var ending: ChildProcess.Ending {
    ChildProcess.Ending(terminateAfter: .seconds(terminateAfter), killAfter: .seconds(killAfter))
  }
}

/// Runs `exec:` commands.
struct CommandRunner: Sendable {
  let ending: ChildProcess.Ending
  /// Of a serial line; nil for as it is.
  let baud: Int?
  let interruption: Interruption
  /// Whose password every client has had to give.
  let user: String?
  /// What is in our environment for us alone.
  private static let secrets: Set = ["SLUICE_BASIC_AUTH", "SLUICE_KEY_PASSPHRASE"]

  /// - Parameter visit: The connection that the command serves, of which it is told; nil if it serves none.
  func run(_ command: String, for visit: Visit?) async throws -> ChildProcess {
    let environment = if let visit { environment(await visit.variables) } else { nil as [String: String]? }
    let child = try await ChildProcess.shell(command, environment: environment, ending: ending)
    watch(child)
    return child
  }

  /// Runs it in a terminal.
  func terminal(
    _ command: String, _ window: ChildProcess.WindowSize, for visit: Visit?
  ) async throws -> ChildProcess {
    var environment = if let visit { environment(await visit.variables) } else { ChildProcess.inheritedEnvironment }
    // A service has none. Pages and terminals of today all understand this one.
    if environment["TERM"] == nil || environment["TERM"] == "dumb" { environment["TERM"] = "xterm-256color" }
    let child = try await ChildProcess.terminal(command, window: window, environment: environment, ending: ending)
    watch(child)
    return child
  }

  private func watch(_ child: ChildProcess) {
    let id = interruption.add { child.end() }
    Task {
      _ = try? await child.waitForExit()
      interruption.remove(id)
    }
  }

  private func environment(_ connection: CGIVariables) -> [String: String] {
    var variables = connection
    if let user, connection["REQUEST_METHOD"] != nil {
      variables["AUTH_TYPE"] = "Basic"
      variables["REMOTE_USER"] = user
    }
    return variables.added(to: ChildProcess.inheritedEnvironment.filter { !Self.secrets.contains($0.key) })
  }
}
