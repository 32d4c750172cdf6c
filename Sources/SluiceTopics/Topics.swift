import SluiceStreams
import Synchronization

/// Topics of one engine.
///
/// ```swift
/// let rooms = Topics.memory()
/// let room = try rooms.topic("rooms.lobby")
/// ```
/// Messages in memory are gone with the process. Other modules have engines that keep them, and that many processes and machines share.
public final class Topics: Sendable {
  private let engine: any TopicEngine
  private let options: TopicsOptions
  private let permits: WaitingLine
  private let state = Mutex(State())

  private struct State {
    var topics: [String: WeakTopic] = [:]
    /// Of how many of them those that nobody uses any more are looked for.
    var sweepCount = 64
    var isClosed = false
  }

  private struct WeakTopic {
    weak var core: TopicCore?
  }

  package init(engine: any TopicEngine, options: TopicsOptions) {
    self.engine = engine
    self.options = options
    permits = WaitingLine(options.maxCatchUpReads)
  }

  /// Topics in this process.
  public static func memory(options: TopicsOptions = TopicsOptions()) -> Topics {
    Topics(engine: MemoryTopicEngine(), options: options)
  }

  /// A topic by name. It need not have been made before, and costs nothing until it is used.
  /// - Parameters:
  ///   - name: 1 to 200 letters, digits, `.`, `_`, `-` and `:`.
  ///   - limits: How much of its log is kept. Default: as the options say. Who names it first decides for this process.
  /// - Throws: `TopicError.invalidName`, so that what a visitor sends can't be another name than was meant.
  public func topic(_ name: String, limits: LogLimits? = nil) throws -> Topic {
    guard Self.isName(name) else { throw TopicError.invalidName(name) }
    return try state.withLock { state in
      if state.isClosed { throw TopicError.closed }
      if let core = state.topics[name]?.core { return Topic(core: core) }
      let core = TopicCore(name, engine, limits ?? options.limits, options, permits: permits)
      state.topics[name] = WeakTopic(core: core)
      if state.topics.count > state.sweepCount {
        state.topics = state.topics.filter { $0.value.core != nil }
        state.sweepCount = max(64, 2 * state.topics.count)
      }
      return Topic(core: core)
    }
  }

  /// Whether a text may be a topic's name.
  package static func isName(_ name: String) -> Bool {
    (1...200).contains(name.utf8.count)
      && name.utf8.allSatisfy { byte in
        ASCII.isLetter(byte) || ASCII.isDigit(byte)
          || [UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: ":")].contains(byte)
      }
  }

  /// The names of the topics that have messages, sorted. All keys of a Redis database are looked at for that.
  /// - Throws: `TopicError.unavailable`, `.refused`.
  public func names() async throws -> [String] { try await engine.names().sorted() }

  /// Ends all reading and appending, with `TopicError.closed`, and the engine's connections. Appends under way are not waited for.
  public func close() async {
    let cores = state.withLock { state -> [TopicCore] in
      state.isClosed = true
      defer { state.topics = [:] }
      return state.topics.values.compactMap(\.core)
    }
    for core in cores { core.close() }
    await engine.close()
  }
}
