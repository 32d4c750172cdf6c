import Sluice
import SluiceHTTP

/// One end of a pipe, as it is named on the command line.
enum Endpoint: Hashable, Sendable {
  case standardIO
  case webSocket(url: String)
  case tcp(host: String, port: Int)
  case tls(host: String, port: Int)
  case unix(path: String)
  case udp(host: String, port: Int)
  case unixDatagram(path: String)
  case unixPackets(path: String)
  case file(path: String)
  case exec(command: String)
  case pty(command: String)
  case serial(path: String)
  case replay(path: String)
  case echo
  case null
  case room(name: String)
  indirect case shared(Endpoint)
  case eventSource(url: String)
  case http(url: String)
  case broadcast(url: String)
  case topic(TopicURL)
  case listenWebSocket(url: String)
  case listenTCP(host: String, port: Int)
  case listenTLS(host: String, port: Int)
  case listenUnix(path: String)
  case listenUDP(host: String, port: Int)
  case listenUnixDatagram(path: String)
  case listenUnixPackets(path: String)

  init(_ text: String) throws(UsageError) {
    if text == "-" {
      self = .standardIO
      return
    }
    guard let colon = text.firstIndex(of: ":") else {
      if let meant = ForeignNames.endpoint(text.lowercased(), "") {
        throw UsageError("'\(text)' is not an endpoint: write \(meant)")
      }
      throw UsageError(
        "'\(text)' is not an endpoint; for a file, write file:\(text). Endpoints are: \(EndpointForm.list)")
    }
    let scheme = text[..<colon].lowercased()
    let rest = String(text[text.index(after: colon)...])
    switch scheme {
    case "ws", "wss", "ws+unix", "wss+unix":
      // A client that chooses the host would have this program connect anywhere.
      guard Self.authority(of: text)?.contains("{") != true else {
        throw UsageError("a name in braces can't stand for the host in '\(text)'")
      }
      self = .webSocket(url: text)
    case "listen+ws", "listen+wss":
      try Self.checkListening(rest, in: text)
      self = .listenWebSocket(url: scheme.dropFirst(7) + ":" + rest)
    case "sse+http", "sse+https": self = .eventSource(url: scheme.dropFirst(4) + ":" + rest)
    case "http", "https", "http+unix", "https+unix": self = .http(url: text)
    case "listen+http", "listen+https":
      throw UsageError(
        "unknown scheme '\(scheme)': write listen+\(scheme == "listen+http" ? "ws" : "wss")://… with --files, --health or --route"
      )
    case "listen+sse+http", "listen+sse+https":
      try Self.checkListening(rest, in: text)
      self = .broadcast(url: scheme.dropFirst(11) + ":" + rest)
    case "tcp", "tls":
      let (host, port) = try Self.hostAndPort(rest, in: text, allowsZero: false)
      self = scheme == "tcp" ? .tcp(host: host, port: port) : .tls(host: host, port: port)
    case "listen+tcp", "listen+tls":
      let (host, port) = try Self.hostAndPort(rest, in: text, allowsZero: true)
      self = scheme == "listen+tcp" ? .listenTCP(host: host, port: port) : .listenTLS(host: host, port: port)
    case "udp":
      let (host, port) = try Self.hostAndPort(rest, in: text, allowsZero: false)
      self = .udp(host: host, port: port)
    case "listen+udp":
      let (host, port) = try Self.hostAndPort(rest, in: text, allowsZero: true)
      self = .listenUDP(host: host, port: port)
    case "unix-dgram": self = .unixDatagram(path: try Self.nonEmpty(rest, "a path", in: text))
    case "listen+unix-dgram": self = .listenUnixDatagram(path: try Self.nonEmpty(rest, "a path", in: text))
    case "unix-seqpacket", "listen+unix-seqpacket":
      #if os(Linux)
        let path = try Self.nonEmpty(rest, "a path", in: text)
        self = scheme == "unix-seqpacket" ? .unixPackets(path: path) : .listenUnixPackets(path: path)
      #else
        throw UsageError("\(scheme): is there on Linux only: this system has no such sockets")
      #endif
    case "unix": self = .unix(path: try Self.nonEmpty(rest, "a path", in: text))
    case "listen+unix": self = .listenUnix(path: try Self.nonEmpty(rest, "a path", in: text))
    case "file": self = .file(path: try Self.nonEmpty(rest, "a path", in: text))
    case "replay": self = .replay(path: try Self.nonEmpty(rest, "a path", in: text))
    case "tty": self = .serial(path: try Self.nonEmpty(rest, "a path", in: text))
    case "pty": self = .pty(command: try Self.nonEmpty(rest, "a command", in: text))
    case "exec": self = .exec(command: try Self.nonEmpty(rest, "a command", in: text))
    case "echo", "null":
      guard rest.isEmpty else {
        throw UsageError("'\(scheme):' must not be followed by anything, but is followed by '\(rest)'")
      }
      self = scheme == "echo" ? .echo : .null
    case _ where scheme.hasPrefix(TopicURL.prefix): self = .topic(try TopicURL(text))
    case "room": self = .room(name: rest)
    case "shared":
      let shared = try Endpoint(rest)
      switch shared {
      case .standardIO, .exec, .pty, .serial, .webSocket, .tcp, .tls, .unix, .file: self = .shared(shared)
      default:
        throw UsageError("\(shared.name) can't be shared: -, exec:, pty:, tty:, ws:, tcp:, tls:, unix: and file: can")
      }
    case _ where scheme.hasPrefix("listen+") && scheme.hasSuffix("fd"):
      throw UsageError("a listening endpoint comes first: sluice \(text) TARGET")
    default:
      if let meant = ForeignNames.endpoint(scheme, rest) {
        throw UsageError("unknown scheme '\(scheme)': write \(meant)")
      }
      throw UsageError("unknown scheme '\(scheme)'. Endpoints are: \(EndpointForm.list)")
    }
  }

  /// Its form, for messages.
  var name: String {
    switch self {
    case .standardIO: "'-'"
    case .webSocket: "ws:"
    case .tcp: "tcp:"
    case .tls: "tls:"
    case .unix: "unix:"
    case .udp: "udp:"
    case .unixDatagram: "unix-dgram:"
    case .unixPackets: "unix-seqpacket:"
    case .file: "file:"
    case .replay: "replay:"
    case .exec: "exec:"
    case .pty: "pty:"
    case .serial: "tty:"
    case .echo: "echo:"
    case .null: "null:"
    case .room: "room:"
    case .shared(let endpoint): "shared:" + (endpoint == .standardIO ? "-" : endpoint.name)
    case .eventSource: "sse+http:"
    case .http: "http:"
    case .broadcast: "listen+sse+http:"
    case .topic(let url): "\(url.scheme):"
    case .listenWebSocket: "listen+ws:"
    case .listenTCP: "listen+tcp:"
    case .listenTLS: "listen+tls:"
    case .listenUnix: "listen+unix:"
    case .listenUDP: "listen+udp:"
    case .listenUnixDatagram: "listen+unix-dgram:"
    case .listenUnixPackets: "listen+unix-seqpacket:"
    }
  }

  /// Whether it connects to something that may go away and come back.
  var isRemote: Bool {
    switch self {
    case .webSocket, .tcp, .tls, .unix, .udp, .unixDatagram, .unixPackets, .eventSource, .http: true
    case .shared(let endpoint): endpoint.isRemote
    default: false
    }
  }

  /// Whether connections meet in it, so that only a listening endpoint can have it as a TARGET.
  var isMeetingPlace: Bool {
    switch self {
    case .room, .shared: true
    default: false
    }
  }

  /// What is opened for it: the endpoint that is shared.
  var opened: Endpoint { if case .shared(let endpoint) = self { endpoint } else { self } }

  /// Whether it serves connections, each with a target of its own.
  var isListener: Bool {
    switch self {
    case .listenWebSocket, .listenTCP, .listenTLS, .listenUnix, .listenUDP, .listenUnixDatagram, .listenUnixPackets:
      true
    default: false
    }
  }

  /// Whether it serves what another endpoint gives.
  var isBroadcast: Bool {
    if case .broadcast = self { true } else { false }
  }

  /// Whether what it has are events or the messages of a topic, which have a JSON of their own.
  var isFeed: Bool {
    switch self {
    case .eventSource, .broadcast, .topic: true
    default: false
    }
  }

  var isTopic: Bool {
    if case .topic = self { true } else { false }
  }

  /// Whether it serves in TLS, and so needs a certificate.
  var servesTLS: Bool {
    switch self {
    case .listenWebSocket(let url): url.lowercased().hasPrefix("wss:")
    case .listenTLS: true
    case .broadcast(let url): url.lowercased().hasPrefix("https:")
    default: false
    }
  }

  /// Whether it sends requests, with credentials and headers.
  var isHTTPClient: Bool {
    switch self {
    case .webSocket, .eventSource, .http: true
    default: false
    }
  }

  /// Whether it answers requests, and so can ask for credentials.
  var isHTTPServer: Bool {
    switch self {
    case .listenWebSocket, .broadcast: true
    default: false
    }
  }

  /// Whether its URL has a user and a password.
  var hasCredentials: Bool {
    switch self {
    case .webSocket(let url), .eventSource(let url), .http(let url): Self.authority(of: url)?.contains("@") ?? false
    default: false
    }
  }

  /// The path of a listening endpoint's URL, as it is written; "/" where there is none.
  var listeningPath: String {
    switch self {
    case .listenWebSocket(let url), .broadcast(let url):
      guard let authority = Self.authority(of: url) else { return "/" }
      let path = url[authority.endIndex...]
      return path.isEmpty ? "/" : String(path)
    default: return "/"
    }
  }

  /// The URL of a listening endpoint without its path.
  static func withoutPath(_ url: String) -> String {
    authority(of: url).map { String(url[..<$0.endIndex]) } ?? url
  }

  /// A WebSocket's URL with the path and query of a request behind its own path.
  func asking(for target: String) -> Endpoint {
    guard case .webSocket(let url) = self, let authority = Self.authority(of: url) else { return self }
    let base = url[authority.endIndex...].prefix { $0 != "?" }
    return .webSocket(url: url[..<authority.endIndex] + (base.hasSuffix("/") ? base.dropLast() : base) + target)
  }

  /// What stands between "//" and the path; nil for a URL without.
  private static func authority(of url: String) -> Substring? {
    guard let colon = url.firstIndex(of: ":"), url[colon...].hasPrefix("://") else { return nil }
    return url[colon...].dropFirst(3).prefix { !"/?#".contains($0) }
  }

  /// Whether it moves messages rather than bytes.
  var isMessageBased: Bool {
    switch self {
    case .webSocket, .listenWebSocket: true
    default: false
    }
  }

  /// Whether it ends by itself once it is told nothing more.
  var endsWithItsInput: Bool {
    switch self {
    case .standardIO, .serial: false
    default: true
    }
  }

  /// Whether it is a command in a terminal.
  var isTerminal: Bool { if case .pty = self { true } else { false } }

  /// Whether it plays a recording, of messages or of bytes.
  var isReplay: Bool { if case .replay = self { true } else { false } }

  /// Whether what it moves are messages, of a connection or of a log.
  var movesMessages: Bool { isMessageBased || isTopic || isDatagrams || isPackets }

  var isDatagrams: Bool {
    switch self {
    case .udp, .unixDatagram, .listenUDP, .listenUnixDatagram: true
    default: false
    }
  }

  /// Whether it is a connection, or listens for such, that keeps messages by itself.
  var isPackets: Bool {
    switch self {
    case .unixPackets, .listenUnixPackets: true
    default: false
    }
  }

  private static func nonEmpty(_ rest: String, _ what: String, in text: String) throws(UsageError) -> String {
    guard !rest.isEmpty else { throw UsageError("\(what) is missing after the colon in '\(text)'") }
    return rest
  }

  /// A URL to listen at says at which port, and nothing of credentials, which would be ignored.
  private static func checkListening(_ rest: String, in text: String) throws(UsageError) {
    _ = try hostAndPort(authority(of: ":" + rest).map { "//" + $0 } ?? rest, in: text, allowsZero: true)
  }

  /// "//host:port", with an IPv6 address in brackets.
  static func hostAndPort(
    _ rest: String, in text: String, allowsZero: Bool
  ) throws(UsageError) -> (String, Int) {
    guard rest.hasPrefix("//") else {
      throw UsageError("'//' is missing after the colon in '\(text)', as in tcp://127.0.0.1:80")
    }
    let authority = rest.dropFirst(2)
    guard !authority.contains("@") else {
      let scheme = text.prefix { $0 != ":" }
      throw UsageError(
        "\(scheme): does not allow credentials\(scheme.hasPrefix("listen+") ? " in its URL; --basic-auth requires them of clients" : "")"
      )
    }
    guard let colon = authority.lastIndex(of: ":"), !authority[colon...].contains("]") else {
      throw UsageError(
        "the port is missing in '\(text)', as in \(allowsZero ? "127.0.0.1:8080" : "tcp://127.0.0.1:80")")
    }
    var host = authority[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
    } else if host.contains(":") {
      throw UsageError("the IPv6 address in '\(text)' must be in brackets, as in tcp://[::1]:80")
    }
    guard !host.isEmpty else { throw UsageError("the host is missing in '\(text)'") }
    do { try HostName.check(String(host)) } catch { throw UsageError(error.description) }
    let digits = authority[authority.index(after: colon)...]
    let lowest = allowsZero ? 0 : 1
    guard let port = Int(digits), digits.allSatisfy(\.isNumber), (lowest...65535).contains(port) else {
      throw UsageError("invalid port '\(digits)' in '\(text)' (expected \(lowest)–65535)")
    }
    return (String(host), port)
  }
}

/// A command line that can't be carried out.
struct UsageError: Error, Equatable, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}
