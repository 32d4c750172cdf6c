import ArgumentParser
import Sluice
import SluiceIO

/// `sluice demo`: a page that shows what Sluice does, for a browser.
struct DemoCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo",
    abstract: "Serve a demo page: a WebSocket, an event stream, a chat room, and backpressure to play with.",
    discussion: "Open the printed address in one or more browser tabs. Press Ctrl-C to stop.")

  @Option(help: ArgumentHelp("The address to listen on; with port 0 the system chooses one.", valueName: "HOST:PORT"))
  var listen = "127.0.0.1:8080"

  @Option(
    help: ArgumentHelp(
      "Keep the room and the events on topics, which all demos there share: topic+redis://HOST[:PORT][/DATABASE], topic+sqlite:FILE, … The page shows positions, and has a switch that kills the server.",
      valueName: "URL"))
  var topics: String?

  @Option(
    help: ArgumentHelp(
      "Show a terminal with this command on the page, for whoever has the address that is printed.",
      valueName: "COMMAND"))
  var terminal: String?

  func validate() throws {
    do throws(UsageError) { _ = try Endpoint.hostAndPort("//" + listen, in: listen, allowsZero: true) } catch {
      throw ValidationError("--listen must be HOST:PORT: \(error)")
    }
  }

  func run() async throws {
    let diagnostics = Diagnostics(isVerbose: false, isQuiet: false)
    do {
      try await serve(diagnostics)
    } catch is CancellationError {
      // Ended as it was asked to.
    } catch {
      diagnostics.error(error)
      throw ExitCode(ExitStatus(error).rawValue)
    }
  }

  private func serve(_ diagnostics: Diagnostics) async throws {
    var options = HTTPServerOptions()
    options.shutdownTimeout = .seconds(1)
    let opener = try TopicsTLSOptions.parse([]).opener()
    var shared: SharedDemo?
    if let topics {
      shared = try SharedDemo(await opener.topics(try TopicURL.engine(topics), for: .appending))
    }
    let interruption = Interruption()
    interruption.watch()
    let server = try await HTTPServer.listen("http://\(listen)", options: options)
    let commands = CommandRunner(ending: ChildProcess.Ending(), baud: nil, interruption: interruption, user: nil)
    let terminal = terminal.map { DemoTerminal(command: $0, commands: commands) }
    let running = Task { [shared] in
      try await withThrowingTaskGroup(of: Void.self) { group in
        if let shared { group.addTask { try await shared.tick(from: server.url) } }
        group.addTask { try await server.run(routes: Demo(sharing: shared, terminal).routes) }
        defer { group.cancelAll() }
        try await group.next()
      }
    }
    let stop = interruption.add { running.cancel() }
    defer { interruption.remove(stop) }
    // Whoever reads this may send a signal at once.
    diagnostics.notice("open \(server.url)\(terminal.map { "?key=\($0.key)" } ?? "") in a browser")
    try await running.value
  }
}
