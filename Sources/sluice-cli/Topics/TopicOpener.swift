import Sluice
import SluiceTLS
import SluiceTopics
import SluiceTopicsNATS
import SluiceTopicsRedis
import SluiceTopicsSQLite
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Connects to what keeps topics, and lets go of it at the end.
final class TopicOpener: Sendable {
  let options: TopicCommandOptions
  /// The type of what is appended, or of what is read alone; nil: none, and all.
  private let event: String?
  let writesJSON: Bool
  /// Bytes of a message.
  let maxMessage: Int
  private let tls: TopicTLS
  private let diagnostics: Diagnostics
  private let opened = Mutex<[Opening: Topics]>([:])

  /// What is to be done with an engine's topics.
  enum Use {
    /// What is not there is not made.
    case reading
    case appending
  }

  private struct Opening: Hashable {
    let engine: TopicURL.Engine
    let use: Use
  }

  init(
    _ options: TopicCommandOptions, event: String?, writesJSON: Bool, maxMessage: Int?, tls: TopicTLS,
    _ diagnostics: Diagnostics
  ) {
    self.options = options
    self.event = event
    self.writesJSON = writesJSON
    self.maxMessage = maxMessage ?? TopicsOptions().maxMessageBytes
    self.tls = tls
    self.diagnostics = diagnostics
  }

  /// Those that are asked for again are the same.
  func topics(_ engine: TopicURL.Engine, for use: Use) async throws -> Topics {
    let opening = Opening(engine: engine, use: use)
    if let topics = opened.withLock({ $0[opening] }) { return topics }
    let observer = TopicDiagnostics(diagnostics)
    var topicsOptions = TopicsOptions()
    topicsOptions.limits = options.limits.limits
    topicsOptions.maxMessageBytes = maxMessage
    topicsOptions.appendTimeout = .seconds(options.appendTimeout)
    topicsOptions.observer = observer
    let topics: Topics
    do { topics = try await connect(engine, use, topicsOptions) } catch let error as TopicError {
      throw TopicOpenError(error, isFile: engine.isFile)
    }
    observer.begin()
    opened.withLock { $0[opening] = topics }
    return topics
  }

  private func connect(_ engine: TopicURL.Engine, _ use: Use, _ options: TopicsOptions) async throws -> Topics {
    switch engine {
    case .memory: .memory(options: options)
    case .sqlite(let path): try await openFile(path, use, options)
    case .redis(let url): try await openRedis(url, options)
    case .nats(let place): try await openNATS(place, use, options)
    }
  }

  private func openFile(_ path: String, _ use: Use, _ options: TopicsOptions) async throws -> Topics {
    #if SQLite
      var sqlite = SQLiteOptions()
      sqlite.access = use == .reading ? .readOnly : .readWrite
      return try await .sqlite(path, sqlite: sqlite, options: options)
    #else
      throw UsageError(
        "this sluice was built without topics in files (trait SQLite); scripts/build-tool builds it with them")
    #endif
  }

  private func openRedis(_ url: String, _ options: TopicsOptions) async throws -> Topics {
    #if Redis
      var redis = RedisOptions()
      redis.tls = tls.context
      redis.password = Self.environment("REDISCLI_AUTH")
      return try await .redis(url, redis: redis, options: options)
    #else
      throw UsageError(
        "this sluice was built without topics on Redis (trait Redis); scripts/build-tool builds it with them")
    #endif
  }

  private func openNATS(_ place: NATSPlace, _ use: Use, _ options: TopicsOptions) async throws -> Topics {
    #if NATS
      var nats = NATSOptions()
      nats.credentialsFile = place.credentialsFile ?? Self.environment("NATS_CREDS")
      nats.token = Self.environment("NATS_TOKEN")
      nats.username = Self.environment("NATS_USER")
      nats.password = Self.environment("NATS_PASSWORD")
      nats.authorityFile = tls.authorities
      nats.certificateFile = tls.certificate
      nats.keyFile = tls.key
      nats.replicas = place.replicas
      // A name that was mistyped leaves nothing.
      nats.readingMakesStreams = use == .appending
      nats.storage = place.isInMemory ? .memory : .file
      if let prefix = place.prefix { nats.prefix = prefix }
      nats.domain = place.domain
      return try await .nats(place.url, nats: nats, options: options)
    #else
      throw UsageError(
        "this sluice was built without topics on NATS (trait NATS); scripts/build-tool builds it with them")
    #endif
  }

  /// What is not shown in the process list.
  private static func environment(_ name: String) -> String? {
    unsafe getenv(name).map { unsafe String(cString: $0) }
  }

  /// What there is to be read of a topic, as messages or as lines of JSON.
  func source(_ url: TopicURL) async throws -> OpenEndpoint {
    let topic = try await topic(url, for: .reading)
    do {
      let reader = try await topic.messages(from: options.beginning)
      let last = options.noFollow ? try await topic.position() : nil
      let source = TopicSource(reader: reader, last: last, event: event)
      return writesJSON ? .source(source.map { Bytes($0.json + "\n") }) : .messageSource(source.map { Message($0) })
    } catch let error as TopicError {
      throw TopicOpenError(error, isFile: url.engine.isFile)
    }
  }

  /// A sink whose end comes when all is stored.
  func sink(_ url: TopicURL) async throws -> OpenEndpoint {
    .messageSink(TopicSink(writer: try await topic(url, for: .appending).writer(), event: event))
  }

  private func topic(_ url: TopicURL, for use: Use) async throws -> Topic {
    guard let name = url.name(with: [:]) else {
      throw UsageError(
        "'{…}' in a topic's name is what the path of a client has, for listen+ws: and listen+sse+http: alone")
    }
    if case .memory = url.engine {
      throw UsageError("topic+memory: is of this process alone: it can be TARGET of listen+ws: only")
    }
    return try await topics(url.engine, for: use).topic(name)
  }

  /// Lets go of all that was opened.
  func close() async {
    for topics in opened.withLock({ $0.values.map { $0 } }) { await topics.close() }
  }
}

extension TopicURL.Engine {
  var isFile: Bool { if case .sqlite = self { true } else { false } }
}

/// How a server of topics is trusted, and trusts us: for what speaks TLS with ours, and for what has its own and takes the paths of PEM files.
struct TopicTLS: Sendable {
  var context: TLSClientContext?
  var authorities: String?
  var certificate: String?
  var key: String?
}

/// Topics could not be opened.
struct TopicOpenError: Error, CustomStringConvertible {
  let error: TopicError
  /// Of a file, or else of a server.
  let isFile: Bool

  init(_ error: TopicError, isFile: Bool) {
    self.error = error
    self.isFile = isFile
  }

  var description: String {
    switch error {
    // What is meant stands in the reason.
    case .refused(let reason), .unavailable(let reason), .untrusted(let reason): reason
    default: error.description
    }
  }
}

/// Says when the engine is away; it is tried again without that.
private final class TopicDiagnostics: TopicObserver {
  private let diagnostics: Diagnostics
  /// What was said last, and when; nil before the first connection, whose failure is an error.
  private let last = Mutex<(text: String, time: ContinuousClock.Instant)?>(nil)
  /// How long the same is not said again.
  private static let pause = Duration.seconds(10)

  init(_ diagnostics: Diagnostics) { self.diagnostics = diagnostics }

  func begin() { last.withLock { $0 = ("", .now) } }

  func didDisconnect(_ reason: any Error) {
    let text = "\(reason); trying again"
    let isNews = last.withLock { last in
      guard let (said, time) = last, said != text || time.duration(to: .now) > Self.pause else { return false }
      last = (text, .now)
      return true
    }
    if isNews { diagnostics.notice(text) }
  }

  func didLose(topic: String, _ loss: TopicLoss) {
    diagnostics.verbose(
      "topic \(topic): messages after \(loss.asked) are lost; the log is whole from \(loss.earliest) on")
  }
}
