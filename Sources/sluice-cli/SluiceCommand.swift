import ArgumentParser
import Sluice

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

@main
struct SluiceCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sluice",
    abstract: "Connects anything with anything: sockets, WebSockets, files, commands, standard input and output.",
    usage: """
      sluice [OPTIONS] SOURCE [TARGET]
      sluice demo [--listen HOST:PORT]
      """,
    discussion: """
      What SOURCE gives goes to TARGET, and what TARGET gives goes to SOURCE, each at the speed of the slower. TARGET is '-', \
      standard input and output, when left out.

      Standard input that is /dev/null or closed, as services and jobs in the background have it, is not read where SOURCE is a \
      connection or listens and '-' is TARGET: sluice receives, until SOURCE ends. --no-input has it so for any standard input; \
      'sluice - SOURCE' sends what it is, and its end.

      ENDPOINTS
        -                    standard input and output
        ws://HOST[:PORT][/PATH]
                             a WebSocket; wss:// in TLS, ws+unix:SOCKET[:/PATH]
                             through a Unix socket
        tcp://HOST:PORT      a TCP connection
        tls://HOST:PORT      a TCP connection in TLS
        unix:PATH            a Unix socket; unix:@NAME is an abstract one
        file:PATH            a file: read as SOURCE, written as TARGET
        exec:COMMAND         a shell command: its standard input and output;
                             behind a listening endpoint, what the connection
                             is stands in its environment, as CGI has it
        echo:                gives back what it gets
        null:                gives nothing, takes everything
        listen+ws://HOST:PORT[/PATH]
                             serves WebSockets, each connection with a fresh
                             TARGET; listen+wss:// in TLS
        listen+tcp://HOST:PORT
                             serves TCP likewise; port 0 is chosen by the
                             system and printed on standard error
        listen+tls://HOST:PORT
                             serves TCP in TLS
        listen+unix:PATH     serves a Unix socket
        sse+http://HOST[:PORT][/PATH]
                             as SOURCE: the events of an event stream
                             (EventSource), to its end, or for as long as it
                             can be had (--reconnect); sse+https:// in TLS
        listen+sse+http://HOST:PORT[/PATH]
                             as TARGET: gives each line of SOURCE to all who
                             listen, as an event; listen+sse+https:// in TLS

      EXAMPLES
        An echo server:
          sluice listen+ws://127.0.0.1:8000 echo:
        A terminal on a WebSocket:
          sluice ws://127.0.0.1:8000
        Lines out, answers back:
          printf 'one\\ntwo\\n' | sluice ws://127.0.0.1:8000
        Send a file, keep the answer:
          sluice --binary - ws://127.0.0.1:8000 <a >b
        Record a feed:
          sluice --append ws://127.0.0.1:8000/feed file:feed.log
        Ship a log, come what may:
          tail -f app.log | sluice --reconnect - wss://logs.example/app
        Ask once:
          echo '{"get":"time"}' | sluice --one-message ws://127.0.0.1:8000
        A WebSocket face for a TCP service:
          sluice --binary listen+ws://127.0.0.1:8000 tcp://127.0.0.1:7000
        Compressed, both ways:
          sluice --compress ws://127.0.0.1:8000
        Through a proxy, in TLS:
          sluice --proxy http://proxy:3128 wss://example.com/feed
        Read an event stream:
          sluice --reconnect --json sse+https://example.com/feed
        Ask with POST for an event stream:
          sluice --post @question.json --header 'Content-Type: application/json' sse+https://example.com/ask
        Give a log to browsers:
          tail -f app.log | sluice - listen+sse+http://127.0.0.1:8000/log
        A server in TLS:
          sluice --cert cert.pem --key key.pem listen+wss://0.0.0.0:8443 echo:
        A command per connection:
          sluice listen+tcp://127.0.0.1:7000 exec:'sort -r'
        Forward a Unix socket:
          sluice listen+unix:/tmp/front tcp://127.0.0.1:7000
        A page that shows all this:
          sluice demo

      EXIT STATUS
          0  ended well
          1  another failure
          3  the peer broke the protocol, or a limit; or said that we did
          4  connection lost, cut or silent for too long, or closed abnormally
          5  no connection
          6  handshake refused
          7  input, output or a command failed, or a port can't be listened on
         64  wrong command line
        130  interrupted twice, or before anything was open (143 by SIGTERM)
      """, version: "0.1.0")

  @Argument(help: "Where the data comes from.")
  var source: String

  @Argument(help: "Where it goes.")
  var target: String = "-"

  @OptionGroup(title: "MESSAGES ON BYTE STREAMS")
  var framing: FramingOptions

  @OptionGroup(title: "WEBSOCKET")
  var webSocket: WebSocketCommandOptions

  @OptionGroup(title: "EVENT STREAMS")
  var events: EventCommandOptions

  @OptionGroup(title: "TLS AND PROXIES")
  var security: SecurityOptions

  @OptionGroup(title: "BEHIND LOAD BALANCERS")
  var balancing: LoadBalancerOptions

  @OptionGroup(title: "LOST CONNECTIONS")
  var reconnecting: ReconnectCommandOptions

  @OptionGroup(title: "COMMANDS")
  var commands: CommandOptions

  @OptionGroup(title: "ENDING")
  var ending: EndingOptions

  @Flag(help: "Receive only: leave standard input alone, and send no end of it.")
  var noInput = false

  @Flag(help: "Write at the end of a file TARGET instead of replacing it.")
  var append = false

  @Flag(help: "Show bytes, messages and rate on standard error.")
  var progress = false

  @Flag(name: [.short, .long], help: "Tell on standard error what happens.")
  var verbose = false

  @Flag(name: [.short, .long], help: "Say nothing but errors that end the run.")
  var quiet = false

  func run() async throws {
    let diagnostics = Diagnostics(isVerbose: verbose, isQuiet: quiet)
    let status: ExitStatus
    do {
      let session = try Session(self, diagnostics: diagnostics)
      try await session.run()
      status = .clean
    } catch is CancellationError {
      // Interrupted before all was open.
      status = .interrupted
    } catch {
      diagnostics.error(error)
      status = ExitStatus(error)
    }
    throw ExitCode(status.rawValue)
  }

  // On the main thread: what there is of descriptors is looked at before the runtime has threads.
  @MainActor static func main() async {
    StandardDescriptors.occupy()
    do { try StandardDescriptors.checkAvailable() } catch {
      Diagnostics(isVerbose: false, isQuiet: false).error(error)
      Self.exit(withError: ExitCode(ExitStatus(error).rawValue))
    }
    await StandardDescriptors.prepareRuntime()
    // The first process of a container is given the orphans of all others.
    if getpid() == 1 { Task { try await Orphans.reap() } }
    let arguments = CommandLine.arguments.dropFirst()
    // Not as a subcommand of the parser's, which would take the word for a SOURCE.
    if arguments.first == "demo" {
      return await run(DemoCommand.self) { try DemoCommand.parse(Array(arguments.dropFirst())) }
    }
    if arguments.isEmpty {
      // The parser would print the whole help, and what is wrong far above it.
      Diagnostics(isVerbose: false, isQuiet: false).error(
        UsageError(
          "SOURCE is missing: sluice [OPTIONS] SOURCE [TARGET], such as sluice ws://127.0.0.1:8000; --help has the rest"
        ))
      Self.exit(withError: ExitCode(ExitStatus.usage.rawValue))
    }
    await run(Self.self) { try Self.parseAsRoot() }
  }

  @MainActor
  private static func run(_ type: (some ParsableCommand).Type, parsing parse: () throws -> any ParsableCommand) async {
    do {
      var command = try parse()
      if var command = command as? any AsyncParsableCommand {
        try await command.run()
      } else {
        try command.run()
      }
      ProcessEnd.leave(with: ExitStatus.clean.rawValue)
    } catch let status as ExitCode {
      ProcessEnd.leave(with: status.rawValue)
    } catch {
      // The parser's own errors end with 64 too (EX_USAGE).
      type.exit(withError: error)
    }
  }
}

struct FramingOptions: ParsableArguments {
  @Flag(help: "A message per line (the default for text).")
  var lines = false

  @Flag(help: "A message between NUL bytes.")
  var null = false

  @Flag(help: "A message behind its length of 4 bytes, big-endian.")
  var lengthPrefixed = false

  @Option(parsing: .unconditional, help: ArgumentHelp("A message per N bytes.", valueName: "N"))
  var chunks: Int?

  @Flag(help: "Send binary messages; bytes pass as they come unless a framing is named.")
  var binary = false

  @Flag(help: "Send text messages (the default).")
  var text = false

  func validate() throws {
    let named = [lines, null, lengthPrefixed, chunks != nil].filter { $0 }.count
    if named > 1 { throw ValidationError("--lines, --null, --length-prefixed and --chunks exclude each other.") }
    if binary && text { throw ValidationError("--binary and --text exclude each other.") }
    if let chunks, chunks < 1 { throw ValidationError("--chunks must be 1 or more, not \(chunks).") }
  }

  var framing: MessageFraming {
    if let chunks { return .chunks(chunks) }
    if null { return .nullTerminated }
    if lengthPrefixed { return .lengthPrefixed }
    return lines || !binary ? .lines : .none
  }

  var kind: MessageKind { binary ? .binary : .text }
}

struct WebSocketCommandOptions: ParsableArguments {
  @Option(
    name: .customLong("header"),
    help: ArgumentHelp(
      "As a client, add a header to requests; may be repeated. Host takes the place of the URL's.",
      valueName: "NAME: VALUE"))
  var headers: [String] = []

  @Option(
    name: .customLong("response-header"),
    help: ArgumentHelp("As a server, add a header to answers; may be repeated.", valueName: "NAME: VALUE"))
  var responseHeaders: [String] = []

  @Option(
    name: .customLong("protocol"),
    help: ArgumentHelp("Offer, or as a server speak, a subprotocol; may be repeated.", valueName: "NAME"))
  var protocols: [String] = []

  @Flag(help: "Compress messages (permessage-deflate), if the peer agrees.")
  var compress = false

  @Option(
    name: .customLong("allow-origin"),
    help: ArgumentHelp(
      "As a server, let pages of this origin connect, such as https://example.com or https://*.example.com; may be repeated. '*' is any. Without it, pages of this server's own host.",
      valueName: "ORIGIN"))
  var origins: [String] = []

  @Option(parsing: .unconditional, help: ArgumentHelp("Longest message that is taken, in bytes.", valueName: "BYTES"))
  var maxMessage = MessageAssembler.defaultMaxMessageSize

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Ping a peer that has sent nothing for so many seconds; nothing from it within that time again is a lost connection.",
      valueName: "SECONDS"))
  var ping: Double?

  @Option(parsing: .unconditional, help: ArgumentHelp("Seconds for connecting and handshake.", valueName: "SECONDS"))
  var connectTimeout: Double = 10

  @Flag(help: "End after one message in each direction.")
  var oneMessage = false

  func validate() throws {
    if maxMessage < 1 { throw ValidationError("--max-message must be 1 or more, not \(maxMessage).") }
    if let origin = origins.first(where: { $0 != "*" && !OriginPolicy.isOrigin($0) }) {
      throw ValidationError("--allow-origin needs SCHEME://HOST[:PORT] or '*', not '\(origin)'.")
    }
    try checkSeconds("--ping", ping, above: 0)
    try checkSeconds("--connect-timeout", connectTimeout, above: 0)
  }

  /// With a context for each direction: the tool has few connections, and they are long.
  var extensions: [any WebSocketExtension] {
    compress
      ? [PermessageDeflate(outgoing: .init(contextTakeover: true), incoming: .init(contextTakeover: true))] : []
  }

  var originPolicy: OriginPolicy {
    origins.isEmpty ? .sameOrigin : origins.contains("*") ? .any : .only(origins)
  }

  func requestHeaders() throws(UsageError) -> Headers {
    // A Host of one's own takes the place of the URL's.
    let parsed = try Self.parse(headers, of: "--header", reserved: HandshakeHeaders.reserved.subtracting(["host"]))
    do {
      var others = parsed
      _ = try others.takeHost()
    } catch { throw UsageError("--header: \(error)") }
    return parsed
  }

  func responseHeaders(of reserved: Set<String>) throws(UsageError) -> Headers {
    try Self.parse(responseHeaders, of: "--response-header", reserved: reserved)
  }

  private static func parse(
    _ headers: [String], of option: String, reserved: Set<String>
  ) throws(UsageError) -> Headers {
    var parsed: Headers = [:]
    for header in headers {
      guard let colon = header.firstIndex(of: ":") else {
        throw UsageError("\(option) needs the form 'NAME: VALUE', but has no colon")
      }
      parsed.append(
        name: String(header[..<colon]),
        value: String(header[header.index(after: colon)...].drop { $0 == " " || $0 == "\t" }))
    }
    do { try parsed.checkSendable(reserved: reserved) } catch { throw UsageError("\(option): \(error)") }
    return parsed
  }
}

struct EndingOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "At the end of one direction: close the WebSocket 'after-answer', when the other direction has ended or been silent for --answer-timeout; 'close' it at once behind the data; 'defer' that until the other direction has ended; or 'close-both' directions.",
      valueName: "after-answer|close|defer|close-both"))
  var onEnd = BridgeEndPolicy.afterAnswer

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "How long the other direction may be silent, when the input has ended, before the WebSocket is closed.",
      valueName: "SECONDS"))
  var answerTimeout: Double = 1

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Stay so long after the end of the input before anything is closed.", valueName: "SECONDS"))
  var linger: Double = 0

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "How long one direction may be silent when the other has ended; 0 is for ever.", valueName: "SECONDS"))
  var halfCloseTimeout: Double = 30

  func validate() throws {
    try checkSeconds("--linger", linger, above: -.leastNonzeroMagnitude)
    try checkSeconds("--half-close-timeout", halfCloseTimeout, above: -.leastNonzeroMagnitude)
    try checkSeconds("--answer-timeout", answerTimeout, above: 0)
  }

  var bridge: BridgeOptions {
    var options = BridgeOptions(
      onEnd: onEnd, halfCloseTimeout: halfCloseTimeout == 0 ? nil : .seconds(halfCloseTimeout))
    options.answerTimeout = .seconds(answerTimeout)
    return options
  }
}

extension BridgeEndPolicy: ExpressibleByArgument {}

extension EndingOptions {
  /// Seconds that nobody waits through, for times that have no other word for it.
  static let forEver = 31_536_000
}

func checkSeconds(_ option: String, _ value: Double?, above lowest: Double) throws {
  guard let value else { return }
  guard value > lowest, value <= 31_536_000 else {
    throw ValidationError(
      "\(option) must be a number of seconds, \(lowest < 0 ? "0 or more" : "more than 0") and at most a year, not \(value)."
    )
  }
}
