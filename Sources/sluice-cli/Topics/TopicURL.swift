import SluiceHTTP
import SluiceStreams
import SluiceTopics

/// A topic as the command line names it: `topic+ENGINE/NAME`.
struct TopicURL: Hashable, Sendable {
  /// Where topics are kept.
  enum Engine: Hashable, Sendable {
    /// This process.
    case memory
    case sqlite(path: String)
    /// As `Topics.redis` takes it.
    case redis(url: String)
    case nats(NATSPlace)
  }
  let engine: Engine
  /// `{name}` in it stands for what a visitor's path has there.
  let name: String
  /// "topic+redis", as it stands in messages.
  let scheme: String

  static let prefix = "topic+"

  /// - Parameter text: `topic+SCHEME:…`; the last segment of its path is the topic.
  init(_ text: String) throws(UsageError) {
    let (scheme, rest) = try Self.divide(text)
    self.scheme = scheme
    let name: Substring
    if scheme == "topic+memory" {
      (engine, name) = (.memory, rest[...])
    } else {
      // Behind the host, if there is one.
      let path = rest.hasPrefix("//") && !rest.hasPrefix("///") ? rest.dropFirst(2) : rest[...]
      // A query may have slashes; elsewhere a question mark can be a file's.
      let named = scheme.hasSuffix("nats") ? path.prefix { $0 != "?" } : path
      guard let slash = named.lastIndex(of: "/") else {
        throw UsageError("the topic's name is missing in '\(text)', as in \(Self.example(of: scheme))")
      }
      let (last, query) = Self.dividedQuery(path[path.index(after: slash)...])
      name = last
      engine = try Self.engine(scheme, String(rest[..<slash]), query, in: text)
    }
    guard !name.isEmpty else {
      throw UsageError("the topic's name is missing in '\(text)', as in \(Self.example(of: scheme))")
    }
    self.name = String(name)
    // Every one of its names with some value.
    let filled = PathParameters.names(in: self.name).reduce(into: [:]) { $0[$1] = "x" }
    guard self.name(with: filled) != nil else {
      throw UsageError(
        name.contains { "{}".contains($0) }
          ? "braces in '\(text)' must enclose the name of a part of the path, as in rooms.{room}"
          : "'\(name)' in '\(text)' is not a topic's name: 1 to 200 letters, digits and . _ - :")
    }
  }

  /// - Parameter values: What a visitor's path has, decoded.
  /// - Returns: nil if a value is missing, or is anything but 1 to 64 letters, digits, `_` and `-`: with a dot or a colon, a visitor could name a topic of another
  ///   pattern.
  func name(with values: [String: String]) -> String? {
    let name = PathParameters.fill(name, with: values.filter { Self.isPlain($0.value) })
    return Topics.isName(name) ? name : nil
  }

  private static func isPlain(_ value: String) -> Bool {
    (1...64).contains(value.utf8.count)
      && value.utf8.allSatisfy { ASCII.isLetter($0) || ASCII.isDigit($0) || "_-".utf8.contains($0) }
  }

  /// An engine without a topic, as `sluice topics list` takes it.
  static func engine(_ text: String) throws(UsageError) -> Engine {
    let (scheme, rest) = try divide(text)
    let (place, query) = dividedQuery(rest[...])
    return try engine(scheme, place.hasSuffix("/") ? String(place.dropLast()) : String(place), query, in: text)
  }

  private static func divide(_ text: String) throws(UsageError) -> (scheme: String, rest: String) {
    guard let colon = text.firstIndex(of: ":") else { throw UsageError("'\(text)' is not a topic's URL: \(forms)") }
    return (text[..<colon].lowercased(), String(text[text.index(after: colon)...]))
  }

  private static func dividedQuery(_ text: Substring) -> (Substring, query: Substring?) {
    guard let mark = text.firstIndex(of: "?") else { return (text, nil) }
    return (text[..<mark], text[text.index(after: mark)...])
  }

  private static func engine(
    _ scheme: String, _ place: String, _ query: Substring?, in text: String
  ) throws(UsageError) -> Engine {
    if query != nil, scheme != "topic+redis+unix", !scheme.hasSuffix("nats") {
      throw UsageError("'\(text)' must not have a query ('?…')")
    }
    switch scheme {
    case "topic+memory": return .memory
    case "topic+sqlite":
      guard !place.isEmpty else { throw UsageError("the file is missing in '\(text)', as in \(example(of: scheme))") }
      return .sqlite(path: place)
    case "topic+redis", "topic+rediss":
      let url = scheme.dropFirst(prefix.count) + ":" + place
      do {
        var database = ""[...]
        for server in Self.servers(url) {
          database = try ConnectionURL(server, schemes: ["redis", "rediss"]).target.dropFirst()
        }
        guard database.isEmpty || UInt16(database) != nil else {
          throw UsageError(
            "'\(database)' in '\(text)' is not the number of a database, as in topic+redis://HOST/0/NAME")
        }
      } catch let error as URLError {
        throw UsageError("\(error)")
      } catch let error as UsageError {
        throw error
      } catch {
        throw UsageError("\(error)")
      }
      return .redis(url: url)
    case "topic+redis+unix":
      let path = place.hasPrefix("//") ? String(place.dropFirst(2)) : place
      guard !path.isEmpty else { throw UsageError("the socket is missing in '\(text)', as in \(example(of: scheme))") }
      if let query, !query.hasPrefix("db=") || UInt16(query.dropFirst(3)) == nil {
        throw UsageError("'?\(query)' in '\(text)' must be ?db=NUMBER")
      }
      return .redis(url: "redis+unix://" + path + (query.map { "?" + $0 } ?? ""))
    case "topic+nats", "topic+tls+nats":
      return .nats(try NATSPlace(scheme.dropFirst(prefix.count) + ":" + place, query, in: text))
    default: throw UsageError("unknown scheme '\(scheme)'. Topics are: \(forms)")
    }
  }

  /// The URLs of servers of a cluster, which have commas between them.
  private static func servers(_ url: String) -> [String] {
    guard let start = url.firstRange(of: "://")?.upperBound else { return [url] }
    let end = url[start...].firstIndex(of: "/") ?? url.endIndex
    let first = url[start..<end].lastIndex(of: "@").map { url.index(after: $0) } ?? start
    let hosts = url[first..<end]
    return hosts.split(separator: ",", omittingEmptySubsequences: false).map {
      String(url[..<first]) + String($0) + String(url[end...])
    }
  }

  static let forms = """
    topic+sqlite:FILE/NAME, topic+redis://[USER:PASSWORD@]HOST[:PORT][,…][/DATABASE]/NAME, topic+rediss://…, \
    topic+redis+unix:SOCKET/NAME[?db=DATABASE], topic+nats://[USER:PASSWORD@]HOST[:PORT][,…]/NAME[?OPTIONS], \
    topic+tls+nats://…, topic+memory:NAME
    """

  private static func example(of scheme: String) -> String {
    switch scheme {
    case "topic+memory": "topic+memory:feed"
    case "topic+sqlite": "topic+sqlite:app.db/log"
    case "topic+redis+unix": "topic+redis+unix:/run/redis/redis.sock/feed"
    case "topic+nats", "topic+tls+nats": "\(scheme)://broker:4222/feed"
    default: "\(scheme)://cache:6379/feed"
    }
  }

  /// Whether it is reached in TLS, and in that of cnats, which knows less of it than our own.
  var isSecure: Bool { scheme == "topic+rediss" || isSecureByNATS }
  var isSecureByNATS: Bool { scheme == "topic+tls+nats" }
}

/// Servers of NATS, and what is to be said of them.
struct NATSPlace: Hashable, Sendable {
  /// As `Topics.nats` takes it.
  let url: String
  private(set) var credentialsFile: String?
  private(set) var replicas = 1
  private(set) var isInMemory = false
  private(set) var prefix: String?
  private(set) var domain: String?

  /// - Parameters:
  ///   - url: `nats://…` or `tls+nats://…`, without a path.
  ///   - query: `NAME=VALUE&…`
  ///   - text: All of it, for messages.
  init(_ url: String, _ query: Substring?, in text: String) throws(UsageError) {
    self.url = url
    guard let slashes = url.firstRange(of: "://") else {
      throw UsageError("'//' is missing after the colon in '\(text)', as in topic+nats://broker/feed")
    }
    let hosts = url[slashes.upperBound...]
    let start = hosts.lastIndex(of: "@").map { hosts.index(after: $0) } ?? hosts.startIndex
    for host in hosts[start...].split(separator: ",", omittingEmptySubsequences: false) {
      do {
        let parsed = try ConnectionURL(String(url[..<start]) + host, schemes: ["nats", "tls+nats"])
        guard parsed.target == "/" else { throw UsageError("'\(text)' has more of a path than the topic's name") }
      } catch { throw error as? UsageError ?? UsageError("\(error)") }
    }
    for field in (query ?? "").split(separator: "&") {
      let parts = field.split(separator: "=", maxSplits: 1).map { String($0) }
      guard parts.count == 2 else { throw UsageError("'\(field)' in '\(text)' must have the form NAME=VALUE") }
      switch (parts[0], parts[1]) {
      case ("credentials", let file): credentialsFile = file
      case ("replicas", let count):
        guard let count = Int(count), (1...5).contains(count) else {
          throw UsageError("'\(field)' in '\(text)': a stream has 1 to 5 replicas")
        }
        replicas = count
      case ("storage", "file"): isInMemory = false
      case ("storage", "memory"): isInMemory = true
      case ("prefix", let text): prefix = text
      case ("domain", let text): domain = text
      default:
        throw UsageError(
          "'\(field)' in '\(text)' must be one of credentials=FILE, replicas=N, storage=file|memory, prefix=TEXT, domain=NAME"
        )
      }
    }
  }
}
