import ArgumentParser
import Sluice
import SluiceIO
import SluiceStreams

/// What the command line says of a listening endpoint.
struct ServingOptions: ParsableArguments {
  @Option(
    name: .customLong("route"),
    help: ArgumentHelp(
      "As listen+ws:, connect what asks for this path to this endpoint; may be repeated. {NAME} is any one segment of the path, and its value in the names of rooms and topics, and URLs. A topic is served to WebSockets and to event streams. Without a TARGET, other paths get 404.",
      valueName: "/PATH=ENDPOINT"))
  var routes: [String] = []

  @Option(
    name: .customLong("files"),
    help: ArgumentHelp(
      "As listen+ws:, serve the files of a folder below this path; may be repeated. Hidden files, and links that lead out of it, are not served.",
      valueName: "/PATH=FOLDER"))
  var folders: [String] = []

  @Option(help: ArgumentHelp("As listen+ws:, answer requests for this path with 'ok'.", valueName: "/PATH"))
  var health: String?

  @Flag(help: "Connect to a ws: TARGET with the path and query that the client has asked listen+ws: for.")
  var passPath = false

  @Option(
    help: ArgumentHelp(
      "What becomes of a connection that takes less than it is sent, in room:, shared: and listen+sse+http: 'wait:SECONDS' has the others wait for it so long, then disconnects it; 'disconnect' at once; 'wait' for ever; 'drop' what it has no room for; 'buffer:BYTES', then wait.",
      valueName: "POLICY"))
  var whenSlow = SlowConnection.waitUpTo(.seconds(10))

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Serve at most N connections at once; more are refused.", valueName: "N"))
  var maxConnections: Int?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Serve at most N connections of one address (IPv6: of one /64).", valueName: "N"))
  var maxConnectionsPerAddress: Int?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Disconnect a client when nothing was sent or received for this long.", valueName: "SECONDS"))
  var idleTimeout: Double?

  @Option(
    help: ArgumentHelp(
      "The mode of the file of listen+unix:, in octal, which says who may connect. Default: what the umask leaves of 0777.",
      valueName: "MODE"))
  var socketMode: SocketMode?

  @Option(
    help: ArgumentHelp("The owner of the file of listen+unix:, by names or numbers.", valueName: "USER[:GROUP]"))
  var socketOwner: String?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Serve on N loops, each a thread, over which the system spreads connections. Default: 1.", valueName: "N"))
  var loops = 1

  @Option(
    help: ArgumentHelp(
      "Serve counts of connections, bytes, messages, refusals and errors at http://HOST:PORT/metrics, as Prometheus reads them; with port 0 the system chooses one.",
      valueName: "HOST:PORT"))
  var metrics: String?

  @Option(
    name: .customLong("allow"),
    help: ArgumentHelp(
      "Serve only clients of this address or network, such as 10.0.0.0/8; may be repeated.",
      valueName: "ADDRESS[/BITS]"))
  var allowed: [IPNetwork] = []

  func validate() throws {
    for (option, value) in [
      ("--max-connections", maxConnections), ("--max-connections-per-address", maxConnectionsPerAddress),
    ] {
      if let value, value < 1 { throw ValidationError("\(option) must be 1 or more, not \(value).") }
    }
    if !(1...Self.mostLoops).contains(loops) {
      throw ValidationError("--loops must be 1 to \(Self.mostLoops), not \(loops).")
    }
    try checkSeconds("--idle-timeout", idleTimeout, above: 0)
    if let metrics {
      do throws(UsageError) { _ = try Endpoint.hostAndPort("//" + metrics, in: metrics, allowsZero: true) } catch {
        throw ValidationError("--metrics must be HOST:PORT: \(error)")
      }
    }
  }

  /// Threads; a machine has fewer processors.
  private static let mostLoops = 256

  func apply(to options: inout ListenOptions) {
    options.loops = loops
    if let maxConnections { options.maxConnections = maxConnections }
    options.maxConnectionsPerAddress = maxConnectionsPerAddress
    options.allowedClients = allowed
  }

  /// - Parameter path: That of the listening endpoint's URL.
  func destinations(_ target: Endpoint?, below path: String) throws(UsageError) -> Destinations {
    var destinations = Destinations()
    for text in routes { destinations.routes.append(try Route(text)) }
    for text in folders {
      let (path, folder) = try PathOption.split(text, "--files", "FOLDER")
      destinations.files.append((path.hasSuffix("/") ? path + "*" : path + "/*", FilePath(folder)))
    }
    if let health {
      guard health.hasPrefix("/") else { throw UsageError("--health must begin with '/', not '\(health)'") }
      destinations.health = health
    }
    if let target, !PathParameters.names(in: path).isEmpty {
      destinations.routes.append(try Route(path, target))
    } else {
      if let target { _ = try Route(path, target) }
      destinations.target = target
    }
    if destinations.haveRoutes && destinations.endpoints.contains(.standardIO) {
      throw UsageError("'-' can't be connected to more than one connection; 'shared:-' can")
    }
    return destinations
  }
}

/// What becomes of a connection that takes less than it is sent together with others.
enum SlowConnection: ExpressibleByArgument, Hashable, Sendable {
  case wait
  case waitUpTo(Duration)
  case buffer(Int)
  case drop
  case disconnect

  init?(argument: String) {
    let words = argument.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    switch (words.first, words.dropFirst().first) {
    case ("wait", nil): self = .wait
    case ("drop", nil): self = .drop
    case ("disconnect", nil): self = .disconnect
    case ("wait", let value?):
      guard let seconds = Double(value), seconds > 0, seconds <= Double(EndingOptions.forEver) else { return nil }
      self = .waitUpTo(.seconds(seconds))
    case ("buffer", let value?):
      guard let bytes = Int(value), bytes > 0 else { return nil }
      self = .buffer(bytes)
    default: return nil
    }
  }

  var defaultValueDescription: String { self == .waitUpTo(.seconds(10)) ? "wait:10" : "\(self)" }

  func policy<Member: BroadcastMember>(of _: Member.Type) -> Broadcast<Member>.SlowPolicy {
    switch self {
    case .wait: .wait
    case .waitUpTo(let time): .waitUpTo(time)
    case .buffer(let limit): .buffer(limit)
    case .drop: .dropNewest
    case .disconnect: .disconnect
    }
  }
}
