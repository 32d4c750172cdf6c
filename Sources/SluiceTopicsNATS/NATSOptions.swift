#if NATS
  import SluiceHTTP
  import SluiceStreams
  import SluiceTopics

  /// How NATS is reached, and what is kept there. What stands in the URL takes precedence.
  public struct NATSOptions: Sendable {
    /// Where the streams of topics are kept.
    public enum Storage: String, Sendable {
      /// On disk. JetStream flushes it every two minutes unless its configuration says otherwise (`sync_interval`, from NATS 2.10 on): a machine that loses
      /// power loses what was not flushed; a killed process loses nothing.
      case file
      /// Gone with the server's process, or with the last one of its replicas.
      case memory
    }
    public var username: String?
    public var password: String?
    /// Instead of a user.
    public var token: String?
    /// The path of a credentials file: a user's JWT, and the seed of its key.
    public var credentialsFile: String?
    /// For `tls+nats:`: the path of the authorities' certificates (PEM). Default: nil, the system's roots.
    public var authorityFile: String?
    /// For `tls+nats:`, where the server asks for one: the paths of a certificate chain and of its key (PEM).
    public var certificateFile: String?
    public var keyFile: String?
    /// What the names of streams and subjects begin with: 1 to 32 letters and digits. Of the topic `a.b`, the stream is `PREFIX_a=b`, its subjects
    /// `PREFIX.t.a=b.EPOCH`, and what was stored is said again on `PREFIX.live.a=b.EPOCH`. Default: "sluice".
    public var prefix = "sluice"
    /// JetStream's domain, where it has one.
    public var domain: String?
    /// For streams that are made from now on. Default: `.file`.
    public var storage = Storage.file
    /// Copies of each stream that is made, 1 to 5, on as many servers of a cluster. Default: 1.
    public var replicas = 1
    /// Whether the stream of a topic that nobody has appended to is made when somebody reads the topic. If not, it is made by the first append, and until then the
    /// topic has a position that only this process knows. Default: true.
    public var readingMakesStreams = true
    /// Bytes of each stream that is made, with everything that JetStream adds; an append that needs more is refused. For accounts that ask for such a limit.
    /// Default: nil, no limit: logs are trimmed by `LogLimits`.
    public var maxStreamBytes: Int?
    /// How long connecting may take, and each answer. Default: 5 seconds.
    public var commandTimeout = Duration.seconds(5)
    /// How often a connection shows that it lives, and it is looked for messages that a subscription has missed. Default: 5 seconds.
    public var probeInterval = Duration.seconds(5)
    /// The longest time between attempts to connect again. Default: 10 seconds.
    public var maxDelay = Duration.seconds(10)

    public init() {}
  }

  /// Servers of one cluster, and how they are reached.
  struct NATSServer: Sendable {
    struct Host: Hashable, Sendable {
      let name: String
      let port: Int
    }
    let hosts: [Host]
    let isSecure: Bool
    let options: NATSOptions
    let names: NATSNames

    /// - Throws: `URLError`; `TopicError.refused` for options that can't be.
    init(_ url: String, _ options: NATSOptions) throws {
      var options = options
      let bytes = url.utf8
      // One user, and hosts behind commas.
      let start = bytes.lastIndex(of: UInt8(ascii: "@")).map { bytes.index(after: $0) }
      let authority = start ?? bytes.firstIndex(of: UInt8(ascii: "/")).map { bytes[$0...].dropFirst(2).startIndex }
      let head = authority.map { bytes[..<$0] } ?? bytes[...]
      let rest = authority.map { bytes[$0...] } ?? bytes[bytes.endIndex...]
      var hosts: [Host] = []
      var isSecure = false
      for part in rest.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false) {
        let text = String(decoding: head, as: UTF8.self) + String(decoding: part, as: UTF8.self)
        let parsed = try ConnectionURL(text, schemes: ["nats", "tls+nats"])
        guard parsed.target == "/" else { throw TopicError.refused("a URL of NATS has no path: \(parsed.target)") }
        isSecure = parsed.scheme == "tls+nats"
        hosts.append(Host(name: parsed.host, port: parsed.port))
        guard let info = parsed.userInfo else { continue }
        (options.username, options.password, options.token, options.credentialsFile) = (nil, nil, nil, nil)
        if info.password.isEmpty {
          options.token = info.user
        } else {
          (options.username, options.password) = (info.user, info.password)
        }
      }
      if hosts.isEmpty { _ = try ConnectionURL(url, schemes: ["nats", "tls+nats"]) }
      guard (1...32).contains(options.prefix.utf8.count),
        options.prefix.utf8.allSatisfy({ ASCII.isLetter($0) || ASCII.isDigit($0) })
      else { throw TopicError.refused("the prefix is 1 to 32 letters and digits") }
      if let domain = options.domain, domain.isEmpty || !domain.utf8.allSatisfy(NATSNames.isOfToken) {
        throw TopicError.refused("'\(domain)' is no domain of JetStream")
      }
      guard (1...5).contains(options.replicas) else { throw TopicError.refused("a stream has 1 to 5 replicas") }
      self.hosts = hosts
      self.isSecure = isSecure
      self.options = options
      names = NATSNames(prefix: options.prefix, domain: options.domain)
    }
  }

  /// What streams and subjects are called.
  struct NATSNames: Sendable {
    let prefix: String
    private let interface: String

    init(prefix: String, domain: String?) {
      self.prefix = prefix
      interface = domain.map { "$JS.\($0).API." } ?? "$JS.API."
    }

    static func isOfToken(_ byte: UInt8) -> Bool {
      ASCII.isLetter(byte) || ASCII.isDigit(byte) || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_")
    }

    /// Topics' names have every character that a token may have but the dot, and no `=`.
    private func token(_ topic: String) -> String {
      String(decoding: topic.utf8.map { $0 == UInt8(ascii: ".") ? UInt8(ascii: "=") : $0 }, as: UTF8.self)
    }

    /// - Returns: nil for a stream that is not a topic's.
    func topic(_ stream: String) -> String? {
      let start = prefix + "_"
      guard stream.utf8.starts(with: start.utf8) else { return nil }
      let name = stream.utf8.dropFirst(start.utf8.count).map { $0 == UInt8(ascii: "=") ? UInt8(ascii: ".") : $0 }
      return String(decoding: name, as: UTF8.self)
    }

    func stream(_ topic: String) -> String { "\(prefix)_\(token(topic))" }
    func subjects(_ topic: String) -> String { subject(topic, epoch: "*") }
    /// Each epoch has a subject of its own, so that what is meant for one can't be stored in another.
    func subject(_ topic: String, epoch: String) -> String { "\(prefix).t.\(token(topic)).\(epoch)" }
    func live(_ topic: String) -> String { live(topic, epoch: "*") }
    func live(_ topic: String, epoch: String) -> String { "\(prefix).live.\(token(topic)).\(epoch)" }
    /// On which those who make a stream agree.
    func making(_ stream: String) -> String { "\(prefix).make.\(stream)" }
    var lifeStream: String { "\(prefix)=life" }
    var lifeSubject: String { "\(prefix).life" }
    var list: String { interface + "STREAM.NAMES" }
    func request(_ name: String, _ stream: String) -> String { "\(interface)\(name).\(stream)" }
  }

  extension Topics {
    /// Topics on NATS with JetStream (2.9 or later), one server or a cluster, for any number of processes and machines.
    ///
    /// ```swift
    /// let rooms = try await Topics.nats("nats://broker:4222")
    /// ```
    /// Each topic is a stream, which is made when the topic is used first, by a reader too. What NATS can lose: with `storage = .file` a machine without power what was
    /// not flushed to its disk, two minutes as it comes; with `.memory` everything at the end of the process; a cluster with `replicas = 3` nothing while two of them live. A
    /// position whose message is lost is known as lost: each life of the server, or of the majority of a cluster, is an epoch of its own.
    /// - Parameter url: `nats://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]`, `TOKEN@` instead of a user, or `tls+nats://…` for TLS. Of several hosts, which
    ///   must be of one cluster, one is connected to, and another one when that is lost.
    /// - Throws: `TopicError.unavailable` if no server is reached, `.refused` if it is not one to be used, or does not permit it; `URLError`.
    public static func nats(
      _ url: String, nats: NATSOptions = NATSOptions(), options: TopicsOptions = TopicsOptions()
    ) async throws -> Topics {
      let engine = NATSTopicEngine(try NATSServer(url, nats), options.observer)
      do { try await engine.check() } catch {
        await engine.close()
        throw error
      }
      return Topics(engine: engine, options: options)
    }
  }
#endif
