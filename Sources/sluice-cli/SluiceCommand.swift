import ArgumentParser
import Sluice
import SluiceIO
import SluiceStreams
import SluiceWebSocket
import SluiceWebSocketProtocol

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

@main
struct SluiceCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sluice",
    abstract: "Connect anything to anything: sockets, WebSockets, files, commands, standard input and output.",
    usage: """
      sluice [OPTIONS] SOURCE [TARGET]
      sluice demo [--listen HOST:PORT] [--topics URL] [--terminal COMMAND]
      sluice topics list|info|trim URL
      """,
    discussion: """
      Copies data between SOURCE and TARGET in both directions, each at the pace of the slower side. TARGET defaults to '-', \
      standard input and output.

      If SOURCE is a connection or a listener and TARGET is '-', standard input that is closed or /dev/null (as in services and \
      background jobs) is not read: sluice receives until SOURCE ends. --no-input does the same for any standard input; \
      'sluice - ENDPOINT' always sends standard input, and its end.

      ENDPOINTS
      \(EndpointForm.table)

      EXAMPLES
        An echo server:
          sluice listen+ws://127.0.0.1:8000 echo:
        A WebSocket on the terminal:
          sluice ws://127.0.0.1:8000
        Send lines, print the answers:
          printf 'one\\ntwo\\n' | sluice ws://127.0.0.1:8000
        Send a file, save the answer:
          sluice --binary - ws://127.0.0.1:8000 <a >b
        Record a feed:
          sluice --append ws://127.0.0.1:8000/feed file:feed.log
        Record what passes, play the server's part to a client:
          sluice --record session.jsonl - ws://127.0.0.1:8000
          sluice listen+ws://127.0.0.1:8001 replay:session.jsonl
        Ship a log, reconnecting as needed:
          tail -f app.log | sluice --reconnect - wss://logs.example/app
        One question, one answer:
          echo '{"get":"time"}' | sluice --one-message ws://127.0.0.1:8000
        A WebSocket in front of a TCP service:
          sluice --binary listen+ws://127.0.0.1:8000 tcp://127.0.0.1:7000
        A chat room:
          sluice listen+ws://127.0.0.1:8000 room:
        The same, counted for Prometheus:
          sluice --metrics 127.0.0.1:9100 listen+ws://127.0.0.1:8000 room:
        Several things at one port:
          sluice --route '/echo=echo:' --route '/rooms/{r}=room:{r}' \\
            --files /=public listen+ws://127.0.0.1:8000
        Subscribe on each connection:
          sluice --reconnect --no-input --say '{"subscribe":"x"}' wss://example.com/feed
        With compression:
          sluice --compress ws://127.0.0.1:8000
        Through a proxy, over TLS:
          sluice --proxy http://proxy:3128 wss://example.com/feed
        Read an event stream:
          sluice --reconnect --json sse+https://example.com/feed
        Request an event stream with POST, as language models want it:
          sluice --data @question.json --header 'Content-Type: application/json' sse+https://example.com/ask
        Fetch a file; upload what comes:
          sluice https://example.com/list file:list
          tail -f app.log | sluice - https://example.com/log
        Stream a log to browsers:
          tail -f app.log | sluice - listen+sse+http://127.0.0.1:8000/log
        A durable log, and back:
          tail -f app.log | sluice - topic+sqlite:app.db/log
          sluice --from earliest topic+sqlite:app.db/log
        A chat over any number of machines:
          sluice 'listen+ws://0.0.0.0:8000/rooms/{room}' 'topic+redis://cache/rooms.{room}'
        A feed that resumes on every machine:
          sluice listen+sse+http://0.0.0.0:8001/feed topic+redis://cache/feed
        A TLS server:
          sluice --cert cert.pem --key key.pem listen+wss://0.0.0.0:8443 echo:
        A command per connection:
          sluice listen+tcp://127.0.0.1:7000 exec:'sort -r'
        Started by systemd, on the socket of its .socket unit:
          sluice listen+ws+fd:3/echo echo:
        Forward a Unix socket:
          sluice listen+unix:/tmp/front tcp://127.0.0.1:7000
        A shell in a terminal, for a page or another sluice:
          sluice --binary listen+ws://127.0.0.1:8000 pty:bash
          sluice --raw - ws://127.0.0.1:8000
        A demo page:
          sluice demo

      EXIT STATUS
          0  success
          1  any other failure
          3  protocol or limit violated, by the peer or, as it says, by us
          4  connection lost, timed out or closed abnormally
          5  could not connect
          6  handshake refused
          7  input, output, a command or listening on a port failed
         64  invalid command line
        130  interrupted twice, or before anything was open (143 by SIGTERM)
      """, version: Version.current)

  @Argument(help: "The first endpoint.", completion: .list(EndpointForm.prefixes))
  var source: String

  @Argument(help: "The second endpoint. Default: -", completion: .list(EndpointForm.prefixes))
  var target: String?

  @OptionGroup(title: "MESSAGES ON BYTE STREAMS")
  var framing: FramingOptions

  @OptionGroup(title: "WEBSOCKET")
  var webSocket: WebSocketCommandOptions

  @OptionGroup(title: "HTTP REQUESTS")
  var request: RequestCommandOptions

  @OptionGroup(title: "EVENT STREAMS")
  var events: EventCommandOptions

  @OptionGroup(title: "TOPICS")
  var topics: TopicCommandOptions

  @OptionGroup(title: "TLS AND PROXIES")
  var security: SecurityOptions

  @OptionGroup(title: "NETWORK")
  var network: NetworkOptions

  @OptionGroup(title: "SERVING")
  var serving: ServingOptions

  @OptionGroup(title: "LOAD BALANCERS")
  var balancing: LoadBalancerOptions

  @OptionGroup(title: "RECONNECTING")
  var reconnecting: ReconnectCommandOptions

  @OptionGroup(title: "COMMANDS")
  var commands: CommandOptions

  @OptionGroup(title: "RECORDING")
  var recording: RecordingOptions

  @OptionGroup(title: "ENDING")
  var ending: EndingOptions

  @Option(
    help: ArgumentHelp(
      "Read options, 'source' and 'target' from a file, one in each line, such as 'ping 30'; may be repeated.",
      valueName: "FILE"), completion: .file())
  var config: [String] = []

  @Flag(help: "Receive only: do not read standard input, nor send its end.")
  var noInput = false

  @Flag(help: "Append to a file TARGET instead of replacing it.")
  var append = false

  @Flag(help: "Show bytes, messages and rate on standard error.")
  var progress = false

  @Flag(name: [.short, .long], help: "Report connections and their ends on standard error.")
  var verbose = false

  @Flag(name: [.short, .long], help: "Print only fatal errors.")
  var quiet = false

  /// The command line, with what the files of --config say.
  @TaskLocal static var arguments = Array(CommandLine.arguments.dropFirst())

  func run() async throws {
    let diagnostics = Diagnostics(isVerbose: verbose, isQuiet: quiet)
    let status: ExitStatus
    var session: Session?
    do {
      let opened = try Session(self, diagnostics: diagnostics)
      session = opened
      try await opened.run()
      status = .clean
    } catch is CancellationError {
      // Interrupted before all was open.
      status = .interrupted
    } catch {
      // What runs in the user's terminal is what the user runs.
      if let code = session?.commandStatus(error) {
        diagnostics.verbose("\(error)")
        throw ExitCode(code)
      }
      diagnostics.error(error)
      status = ExitStatus(error)
    }
    throw ExitCode(status.rawValue)
  }

  // On the main thread: what there is of descriptors is looked at before the runtime has threads.
  @MainActor static func main() async {
    StandardDescriptors.occupy()
    // While there is one thread: others may read the environment.
    Activation.prepare()
    do { try StandardDescriptors.checkAvailable() } catch {
      Diagnostics(isVerbose: false, isQuiet: false).error(error)
      Self.exit(withError: ExitCode(ExitStatus(error).rawValue))
    }
    await StandardDescriptors.prepareRuntime()
    // The first process of a container is given the orphans of all others.
    if getpid() == 1 { Task { try await Orphans.reap() } }
    if let first = arguments.first {
      if Subcommands.names.contains(first) {
        return await run(Subcommands.self) { try Subcommands.parseAsRoot(arguments) }
      }
      if first == "help" {
        let words = Array(arguments.dropFirst())
        if words.isEmpty { return await run(Self.self) { try Self.parseAsRoot(["--help"]) } }
        return await run(Subcommands.self) { try Subcommands.parseAsRoot(words + ["--help"]) }
      }
      // Completions and the manual page are made of all that can be typed.
      if first.hasPrefix("--generate-completion-script") || first == "--experimental-dump-help" {
        return await run(WholeCommandLine.self) { try WholeCommandLine.parseAsRoot(arguments) }
      }
    }
    if arguments.isEmpty {
      // The parser would print the whole help, and what is wrong far above it.
      endAtUsageError(
        "SOURCE is missing: sluice [OPTIONS] SOURCE [TARGET], such as sluice ws://127.0.0.1:8000; see --help")
    }
    do {
      let (files, arguments) = try await ConfigFile.expand(arguments)
      await $arguments.withValue(arguments) {
        await run(Self.self, files) { try Self.parseAsRoot(arguments) }
      }
    } catch {
      endAtUsageError("\(error)")
    }
  }

  @MainActor
  private static func run(
    _ type: (some ParsableCommand).Type, _ files: [ConfigFile] = [], parsing parse: () throws -> any ParsableCommand
  ) async {
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
      if type.exitCode(for: error) != .success { tellBetter(type.message(for: error), files) }
      // The parser's own errors end with 64 too (EX_USAGE).
      type.exit(withError: error)
    }
  }
}

extension SluiceCommand {
  /// Ends with what the parser does not know: what an option of another tool is called here, and in which file and line what it complains of stands.
  @MainActor fileprivate static func tellBetter(_ complaint: String, _ files: [ConfigFile]) {
    let place = files.lazy.compactMap { $0.place(of: complaint) }.first.map { $0 + ": " } ?? ""
    for word in arguments.prefix(while: { $0 != "--" }) where word.hasPrefix("-") {
      let name = String(word.prefix { $0 != "=" })
      guard complaint.contains("option '\(name)'"), let advice = ForeignNames.advice(onOption: name) else { continue }
      endAtUsageError("\(place)unknown option '\(name)': write \(advice)")
    }
    if !place.isEmpty { endAtUsageError(place + complaint) }
  }

  @MainActor fileprivate static func endAtUsageError(_ complaint: String) -> Never {
    Diagnostics(isVerbose: false, isQuiet: false).error(UsageError(complaint))
    ProcessEnd.leave(with: ExitStatus.usage.rawValue)
  }
}

struct FramingOptions: ParsableArguments {
  @Flag(help: "One message per line (the default for text).")
  var lines = false

  @Flag(help: "Messages end with a NUL byte.")
  var null = false

  @Flag(help: "Each message follows its length, 4 bytes, big-endian, or as --length-form says.")
  var lengthPrefixed = false

  @Option(
    help: ArgumentHelp(
      "The length of --length-prefixed: bytes of it (1, 2, 4 or 8), and 'le' for the lowest byte first.",
      valueName: "1|2|4|8[le]"))
  var lengthForm: LengthPrefix?

  @Flag(
    help: "Each message follows a header with its length, as language servers have it (LSP, DAP): Content-Length: N.")
  var contentLength = false

  @Option(
    help: ArgumentHelp(
      "Messages end with this text, in which \\n, \\r, \\t, \\0, \\xNN and \\\\ stand for such bytes.",
      valueName: "TEXT"))
  var separator: Separator?

  @Option(parsing: .unconditional, help: ArgumentHelp("One message per N bytes.", valueName: "N"))
  var chunks: Int?

  @Flag(help: "Each line is a binary message in Base64.")
  var base64 = false

  @Flag(help: "Put the time (UTC) and a blank before each message that is written to a byte stream.")
  var timestamps = false

  @Flag(help: "Send binary messages; without a framing option, bytes are passed on as they arrive.")
  var binary = false

  @Flag(help: "Send text messages (the default).")
  var text = false

  func validate() throws {
    let named = [lines, null, lengthPrefixed, contentLength, separator != nil, chunks != nil].filter { $0 }.count
    if named > 1 {
      throw ValidationError(
        "--lines, --null, --length-prefixed, --content-length, --separator and --chunks are mutually exclusive.")
    }
    if lengthForm != nil && !lengthPrefixed { throw ValidationError("--length-form needs --length-prefixed.") }
    if base64 && (text || named > (lines ? 1 : 0)) {
      throw ValidationError(
        "--base64 is about lines of binary messages: it goes with no other framing, nor with --text.")
    }
    if binary && text { throw ValidationError("--binary and --text are mutually exclusive.") }
    if let chunks, chunks < 1 { throw ValidationError("--chunks must be 1 or more, not \(chunks).") }
  }

  var framing: MessageFraming {
    if let chunks { return .chunks(chunks) }
    if null { return .nullTerminated }
    if lengthPrefixed { return .lengthPrefixed(lengthForm ?? LengthPrefix()) }
    if contentLength { return .contentLength }
    if let separator { return .separated(by: separator.bytes) }
    return lines || base64 || !binary ? .lines : .none
  }

  var kind: MessageKind { binary || base64 ? .binary : .text }
}

extension LengthPrefix: ExpressibleByArgument {
  /// - Parameter argument: Such as "2" or "2le".
  public init?(argument: String) {
    let isLittle = argument.hasSuffix("le")
    guard let width = Int(isLittle ? String(argument.dropLast(2)) : argument).flatMap(Width.init) else { return nil }
    self.init(width, isLittleEndian: isLittle)
  }
}

/// What ends a message, as the command line says it.
struct Separator: ExpressibleByArgument, Sendable {
  let bytes: Bytes

  init?(argument: String) {
    var found: [UInt8] = []
    var rest = argument.utf8[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "\\") else {
        found.append(byte)
        continue
      }
      switch rest.popFirst() {
      case UInt8(ascii: "n"): found.append(0x0A)
      case UInt8(ascii: "r"): found.append(0x0D)
      case UInt8(ascii: "t"): found.append(0x09)
      case UInt8(ascii: "0"): found.append(0)
      case UInt8(ascii: "\\"): found.append(UInt8(ascii: "\\"))
      case UInt8(ascii: "x"):
        guard rest.count >= 2, let value = UInt8(rest.prefix(2).text, radix: 16) else { return nil }
        rest = rest.dropFirst(2)
        found.append(value)
      default: return nil
      }
    }
    if found.isEmpty { return nil }
    bytes = Bytes(found)
  }
}

struct WebSocketCommandOptions: ParsableArguments {
  @Option(
    name: .customLong("header"),
    help: ArgumentHelp(
      "As a client, add a header to requests; may be repeated. Host replaces that of the URL.",
      valueName: "NAME: VALUE"))
  var headers: [String] = []

  @Option(
    name: .customLong("response-header"),
    help: ArgumentHelp("As a server, add a header to responses; may be repeated.", valueName: "NAME: VALUE"))
  var responseHeaders: [String] = []

  @Option(
    name: .customLong("protocol"),
    help: ArgumentHelp("Offer a subprotocol, or as a server accept it; may be repeated.", valueName: "NAME"))
  var protocols: [String] = []

  @Flag(help: "Compress messages (permessage-deflate), if the peer agrees.")
  var compress = false

  @Option(
    name: .customLong("allow-origin"),
    help: ArgumentHelp(
      "As a server, allow web pages of this origin to connect, such as https://example.com or https://*.example.com, or '*' for any; may be repeated. The default is the server's own host.",
      valueName: "ORIGIN"))
  var origins: [String] = []

  @Option(parsing: .unconditional, help: ArgumentHelp("The longest message to accept, in bytes.", valueName: "BYTES"))
  var maxMessage = MessageAssembler.defaultMaxMessageSize

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Ping a peer after this many seconds of silence, and give up on it after as many again.",
      valueName: "SECONDS"))
  var ping: Double?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Time limit for connecting, including handshakes.", valueName: "SECONDS"))
  var connectTimeout: Double = 10

  @Option(
    name: .customLong("say"),
    help: ArgumentHelp(
      "Send this first on each connection that is made to an endpoint, again after reconnecting; may be repeated.",
      valueName: "TEXT"))
  var greetings: [String] = []

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Close with this code: 1000 (the default) or 3000 to 4999.", valueName: "CODE"))
  var closeCode: Int?

  @Option(help: ArgumentHelp("Close with this reason, of up to 123 bytes.", valueName: "TEXT"))
  var closeReason: String?

  @Flag(help: "Exit after one message in each direction.")
  var oneMessage = false

  func validate() throws {
    if maxMessage < 1 { throw ValidationError("--max-message must be 1 or more, not \(maxMessage).") }
    if let origin = origins.first(where: { $0 != "*" && !OriginPolicy.isOrigin($0) }) {
      throw ValidationError("--allow-origin must be SCHEME://HOST[:PORT] or '*', not '\(origin)'.")
    }
    if let closeCode, closeCode != 1000, !(3000...4999).contains(closeCode) {
      throw ValidationError("--close-code must be 1000 or 3000 to 4999, not \(closeCode).")
    }
    if let closeReason, closeReason.utf8.count > 123 {
      throw ValidationError("--close-reason must have 123 bytes or fewer, not \(closeReason.utf8.count).")
    }
    try checkSeconds("--ping", ping, above: 0)
    try checkSeconds("--connect-timeout", connectTimeout, above: 0)
  }

  /// nil for a Close as it always is.
  var close: (code: CloseCode, reason: String)? {
    guard closeCode != nil || closeReason != nil else { return nil }
    return (UInt16(exactly: closeCode ?? 1000).map { CloseCode(rawValue: $0) } ?? .normal, closeReason ?? "")
  }

  /// nil if the command line leaves it as it is.
  var givenMaxMessage: Int? { maxMessage == MessageAssembler.defaultMaxMessageSize ? nil : maxMessage }

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
        throw UsageError("\(option) must have the form 'NAME: VALUE'")
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
      "When one direction ends: close the WebSocket 'after-answer', once the other direction has ended or been silent for --answer-timeout; 'close' it at once, after the data; 'defer' until the other direction has ended; or 'close-both' directions.",
      valueName: "after-answer|close|defer|close-both"),
    completion: .list(["after-answer", "close", "defer", "close-both"]))
  var onEnd = BridgeEndPolicy.afterAnswer

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "After the end of the input, how long the other direction may be silent before the WebSocket is closed.",
      valueName: "SECONDS"))
  var answerTimeout: Double = 1

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("After the end of the input, wait this long before closing anything.", valueName: "SECONDS"))
  var linger: Double = 0

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "How long one direction may be silent after the other has ended; 0 for no limit.", valueName: "SECONDS"))
  var halfCloseTimeout: Double = 30

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "End, with status 0, once nothing has passed in either direction for this long.", valueName: "SECONDS"))
  var quietAfter: Double?

  func validate() throws {
    try checkSeconds("--quiet-after", quietAfter, above: 0)
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
