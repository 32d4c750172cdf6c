/// Where the options of the command line mean something.
///
/// An option that would be ignored is refused instead: the user who gives it relies on it.
struct OptionScope: Sendable {
  private let options: [String]
  /// As in "it applies to …".
  private let place: String
  private let includes: @Sendable (CommandEndpoints) -> Bool

  private init(_ options: [String], for place: String, _ includes: @escaping @Sendable (CommandEndpoints) -> Bool) {
    self.options = options
    self.place = place
    self.includes = includes
  }

  /// An option for endpoints of certain kinds, at either place.
  private init(_ options: [String], forAny place: String, _ includes: @escaping @Sendable (Endpoint) -> Bool) {
    self.init(options, for: place) { $0.all.contains(where: includes) }
  }

  /// Every option that does not go with all endpoints. The others are --config, --linger, --progress, --verbose and --quiet.
  private static let all = [
    OptionScope(
      [
        "--lines", "--null", "--length-prefixed", "--length-form", "--content-length", "--separator", "--chunks",
        "--binary", "--text",
      ],
      for:
        "a WebSocket, a topic, datagrams or unix-seqpacket: connected to a byte stream, or byte streams with --reconnect"
    ) { $0.framesMessages || $0.reconnects },
    OptionScope(["--base64", "--timestamps"], for: "a WebSocket or a topic connected to a byte stream") {
      $0.framesMessages && !$0.gathers
    },
    OptionScope(["--close-code", "--close-reason"], forAny: "ws:, wss:, listen+ws: and listen+wss:") {
      $0.isMessageBased
    },
    OptionScope(
      ["--ipv4", "-4", "--ipv6", "-6", "--local-address"],
      forAny: "ws:, wss:, tcp:, tls:, udp:, http: and sse+http:"
    ) {
      if case .udp = $0 { true } else { $0.connectsOverTCP }
    },
    OptionScope(["--baud"], forAny: "tty:") { if case .serial = $0 { true } else { false } },
    OptionScope(["--protocol", "--compress", "--ping"], forAny: "ws:, wss:, listen+ws: and listen+wss:") {
      $0.isMessageBased
    },
    OptionScope(["--max-message"], for: "ws:, wss:, listen+ws:, listen+wss:, and topics that are appended to") {
      $0.hasWebSocket || $0.appendsToTopic
    },
    OptionScope(["--one-message"], for: "ws:, wss:, listen+ws:, listen+wss:, sse+http:, and topics that are not served")
    {
      !$0.servesTopic && ($0.hasWebSocket || [$0.source, $0.target].contains { $0.isEventSource || $0.isTopic })
    },
    OptionScope(["--header"], forAny: "ws:, wss:, http: and sse+http: (for servers, see --response-header)") {
      $0.isHTTPClient
    },
    OptionScope(["--response-header"], forAny: "listen+ws:, listen+wss: and listen+sse+http:") {
      $0.isHTTPServer
    },
    OptionScope(["--allow-origin"], forAny: "listen+ws:, listen+wss: and listen+sse+http:") { $0.isHTTPServer },
    OptionScope(["--proxy-protocol-from"], forAny: "listening endpoints at addresses of TCP") {
      $0.isListener && !$0.isUnix && !$0.isDatagrams || $0.isBroadcast
    },
    OptionScope(["--reconnect"], for: "ws:, wss:, tcp:, tls:, unix: and sse+http:, without a listening endpoint") {
      !$0.source.isListener && $0.all.contains { $0.isRemote && !$0.isHTTP && !$0.isDatagrams && !$0.isPackets }
    },
    OptionScope(["--route", "--files", "--health"], for: "listen+ws: and listen+wss:") {
      if case .listenWebSocket = $0.source { true } else { false }
    },
    OptionScope(["--pass-path"], for: "listen+ws: and listen+wss: with ws: and wss:") { endpoints in
      if case .listenWebSocket = endpoints.source {
        endpoints.targets.contains(where: \.isWebSocketClient)
      } else {
        false
      }
    },
    OptionScope(["--when-slow"], for: "room:, shared: and listen+sse+http:") {
      $0.gathers || $0.targets.contains(where: \.isBroadcast)
    },
    OptionScope(
      ["--max-connections-per-address", "--allow"],
      for: "listening endpoints at addresses of TCP"
    ) {
      $0.serves && !$0.source.isUnix && !$0.source.isDatagrams && !$0.source.isPackets
    },
    OptionScope(["--loops"], forAny: "listen+ws:, listen+wss:, listen+tcp:, listen+tls: and listen+sse+http:") {
      switch $0 {
      case .listenWebSocket, .listenTCP, .listenTLS, .broadcast: true
      default: false
      }
    },
    OptionScope(["--max-connections", "--metrics"], for: "listening endpoints") { $0.serves },
    OptionScope(
      ["--socket-mode", "--socket-owner"], for: "listen+unix:, listen+unix-dgram: and listen+unix-seqpacket:"
    ) { $0.source.isUnix },
    OptionScope(["--idle-timeout"], for: "listening endpoints other than listen+sse+http:") { $0.source.isListener },
    OptionScope(["--max-reconnect-delay"], for: "--reconnect") { $0.reconnects },
    OptionScope(["--basic-auth"], forAny: "ws:, wss:, http:, sse+http:, listen+ws:, listen+wss: and listen+sse+http:") {
      $0.isHTTPClient || $0.isHTTPServer
    },
    OptionScope(["--say"], forAny: "ws:, wss:, tcp:, tls: and unix:") {
      $0.isRemote && !$0.isEventSource && !$0.isHTTP && !$0.isDatagrams && !$0.isPackets
    },
    OptionScope(["--quiet-after"], for: "runs without a listening endpoint") {
      !$0.serves
    },
    OptionScope(
      ["--connect-timeout"], forAny: "ws:, wss:, tcp:, tls:, unix:, unix-seqpacket:, http: and sse+http:"
    ) {
      $0.isRemote && !$0.isDatagrams
    },
    OptionScope(["--event"], for: "sse+http:, listen+sse+http: with a SOURCE, and topics that are not served") {
      !$0.servesTopic && [$0.source, $0.target].contains { $0.isEventSource || $0.isBroadcast || $0.isTopic }
    },
    OptionScope(["--max-event"], for: "sse+http:, and listen+sse+http: with a SOURCE") {
      !$0.servesTopic && [$0.source, $0.target].contains { $0.isEventSource || $0.isBroadcast }
    },
    OptionScope(
      ["--json"],
      for: "sse+http:, a topic as SOURCE, topics served by listen+ws:, and a WebSocket connected to a byte stream"
    ) {
      $0.source.isEventSource || $0.target.isEventSource || $0.readsTopic || $0.joinsTopic
        || $0.hasWebSocket && $0.framesMessages && !$0.gathers && !$0.all.contains(where: \.isFeed)
    },
    OptionScope(["--last-event-id"], forAny: "sse+http: (for a topic, see --from)") { $0.isEventSource },
    OptionScope(["--method"], forAny: "http: and sse+http:") { $0.isEventSource || $0.isHTTP },
    OptionScope(["--data"], for: "http: and sse+http: as SOURCE") { $0.source.isEventSource || $0.source.isHTTP },
    OptionScope(["--from"], for: "a topic as SOURCE, or served by listen+ws: or listen+sse+http:") {
      $0.readsTopic || $0.servesTopic
    },
    OptionScope(["--no-follow"], for: "a topic as SOURCE") { $0.readsTopic },
    OptionScope(["--max-age", "--max-bytes", "--max-count", "--append-timeout"], for: "topics that are appended to") {
      $0.appendsToTopic
    },
    OptionScope(
      ["--key", "--ca"],
      for:
        "TLS: wss:, tls:, https:, sse+https:, topic+rediss:, topic+tls+nats:, listen+wss:, listen+tls: and listen+sse+https:"
    ) { $0.connectsInTLS || $0.all.contains(where: \.servesTLS) },
    OptionScope(
      ["--alpn", "--tls-profile"],
      for: "TLS: wss:, tls:, https:, sse+https:, topic+rediss:, listen+wss:, listen+tls: and listen+sse+https:"
    ) { $0.connectsInOurTLS || $0.all.contains(where: \.servesTLS) },
    OptionScope(["--cert"], forAny: "listen+wss:, listen+tls: and listen+sse+https:") { $0.servesTLS },
    OptionScope(["--client-cert"], for: "wss:, tls:, https:, sse+https:, topic+rediss: and topic+tls+nats:") {
      $0.connectsInTLS
    },
    OptionScope(["--insecure", "--sni"], for: "wss:, tls:, https:, sse+https: and topic+rediss:") {
      $0.connectsInOurTLS
    },
    OptionScope(["--proxy", "--resolve"], forAny: "ws:, wss:, tcp:, tls:, http: and sse+http:") { $0.connectsOverTCP },
    OptionScope(["--follow-redirects"], for: "ws:, wss:, and http: as SOURCE (event streams follow up to five)") {
      $0.all.contains(where: \.isWebSocketClient) || $0.source.isHTTP
    },
    OptionScope(
      ["--on-end"], for: "a WebSocket connected to an endpoint that both reads and writes"
    ) {
      $0.hasWebSocket && $0.isTwoWay
    },
    OptionScope(
      ["--answer-timeout"], for: "a WebSocket or datagrams connected to an endpoint that both reads and writes"
    ) {
      ($0.hasWebSocket || $0.all.contains(where: \.isDatagrams)) && $0.isTwoWay
    },
    OptionScope(["--half-close-timeout"], for: "endpoints that both read and write") { $0.isTwoWay || $0.hasWebSocket },
    OptionScope(["--record", "--log"], for: "endpoints other than topics that are served") { !$0.servesTopic },
    OptionScope(["--speed", "--play", "--play-connection"], forAny: "replay:") { $0.isReplay },
    OptionScope(["--terminate-after", "--kill-after"], forAny: "exec: and pty:") {
      switch $0 {
      case .exec, .pty: true
      default: false
      }
    },
    OptionScope(["--window"], forAny: "pty:") { $0.isTerminal },
    OptionScope(["--raw"], forAny: "'-'") { $0 == .standardIO },
    OptionScope(["--no-input"], for: "'-' as TARGET") {
      $0.targets.contains(.standardIO) && $0.source != .standardIO
    },
    OptionScope(["--append"], for: "file: as TARGET") { $0.targets.contains(where: \.isFile) },
  ]

  /// - Parameter arguments: The command line, which the parser has accepted.
  /// - Throws: `UsageError` for the first option that means nothing for these endpoints.
  static func check(
    _ arguments: some Sequence<String>, _ source: Endpoint, _ destinations: Destinations
  ) throws(UsageError) {
    // The parser takes no value that looks like an option, but a number's: each of these is an option.
    let given = Set(arguments.prefix { $0 != "--" }.map { String($0.prefix { $0 != "=" }) })
    let endpoints = CommandEndpoints(
      source: source, targets: destinations.endpoints.map(\.opened),
      gathers: destinations.endpoints.contains(where: \.isMeetingPlace), given: given)
    for scope in all where !scope.includes(endpoints) {
      guard let option = scope.options.first(where: given.contains) else { continue }
      let target = destinations.endpoints.first.map { " with \($0.name)" } ?? ""
      throw UsageError("\(option) does not apply to \(source.name)\(target); it applies to \(scope.place)")
    }
  }
}

/// The endpoints of a command line, as its options see them.
private struct CommandEndpoints {
  let source: Endpoint
  /// TARGET, and what stands at routes.
  let targets: [Endpoint]
  /// Whether connections meet at one of these.
  let gathers: Bool
  /// Options that stand on the command line.
  let given: Set<String>

  var all: [Endpoint] { [source] + targets }

  /// Then bytes are cut too, where a lost connection goes on.
  var reconnects: Bool { given.contains("--reconnect") }

  var hasWebSocket: Bool { all.contains(where: \.isMessageBased) }

  /// Whether messages become bytes somewhere, or the other way round. An echo gives messages back as they are, and so does a room.
  var framesMessages: Bool {
    if servesTopic && !joinsTopic || readsTopic && given.contains("--json") { return false }
    return targets.contains { target in
      // A WebSocket's messages are a topic's.
      if target.isTopic && source.isMessageBased { return false }
      if case .room = target { return !source.isMessageBased }
      if source.isReplay || target.isReplay { return true }
      return source.movesMessages != target.movesMessages && source != .echo && target != .echo
    } || gathers && !source.isMessageBased
  }

  /// Whether it listens.
  var serves: Bool { source.isListener || all.contains(where: \.isBroadcast) }

  /// TARGET, or what stands at the first route.
  var target: Endpoint { targets.first ?? .null }

  /// Whether clients are connected to a topic.
  var servesTopic: Bool {
    joinsTopic || source.isBroadcast && target.isTopic || source.isTopic && target.isBroadcast
  }

  /// Whether WebSockets are.
  var joinsTopic: Bool {
    if case .listenWebSocket = source { targets.contains(where: \.isTopic) } else { false }
  }

  var readsTopic: Bool { source.isTopic && !target.isBroadcast }
  var appendsToTopic: Bool { targets.contains(where: \.isTopic) && !source.isBroadcast }

  /// Whether something comes back from a target.
  var isTwoWay: Bool {
    !gathers && !source.isTopic
      && targets.contains { target in
        let answers =
          !target.isTopic && !target.isFile && !target.isBroadcast && target != .null && target != .echo
          && source != .echo
        return answers && !(source == .standardIO && target == .standardIO)
      }
  }

  /// Whether it speaks TLS as a client, or might once it is redirected.
  var connectsInTLS: Bool {
    connectsInOurTLS || all.contains { if case .topic(let url) = $0 { url.isSecure } else { false } }
  }

  /// The same without what a library of another's does.
  var connectsInOurTLS: Bool {
    all.contains {
      switch $0 {
      case .tls, .eventSource, .http: true
      case .topic(let url): url.isSecure && !url.isSecureByNATS
      case .webSocket(let url): url.lowercased().hasPrefix("wss") || given.contains("--follow-redirects")
      default: false
      }
    }
  }
}

extension Endpoint {
  fileprivate var isEventSource: Bool {
    if case .eventSource = self { true } else { false }
  }

  fileprivate var isHTTP: Bool {
    if case .http = self { true } else { false }
  }

  fileprivate var isWebSocketClient: Bool {
    if case .webSocket = self { true } else { false }
  }

  fileprivate var isUnix: Bool {
    switch self {
    case .listenUnix, .listenUnixDatagram, .listenUnixPackets: true
    default: false
    }
  }

  fileprivate var isFile: Bool {
    if case .file = self { true } else { false }
  }

  fileprivate var connectsOverTCP: Bool {
    switch self {
    case .webSocket(let url): !url.lowercased().hasPrefix("ws+unix:") && !url.lowercased().hasPrefix("wss+unix:")
    case .tcp, .tls, .eventSource: true
    case .http(let url): !url.lowercased().hasPrefix("http+unix:") && !url.lowercased().hasPrefix("https+unix:")
    default: false
    }
  }
}
