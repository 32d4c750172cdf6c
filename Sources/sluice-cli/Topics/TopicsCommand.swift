import ArgumentParser
import Sluice
import SluiceTLS
import SluiceTopics

/// `sluice topics`: looks after logs.
struct TopicsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "topics",
    abstract: "List topics, show what one has, and trim it.",
    discussion: """
      A URL is topic+sqlite:FILE, topic+redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], topic+rediss://…, \
      topic+redis+unix:SOCKET[?db=DATABASE], topic+nats://HOST[:PORT] or topic+tls+nats://…, and for one topic with /NAME, as in \
      sluice --help.
      """,
    subcommands: [List.self, Info.self, Trim.self])

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "List the topics that have messages, and how much each has.")

    @Argument(help: "Where topics are kept.")
    var url: String

    @Flag(help: "Write each topic as a line of JSON.")
    var json = false

    @OptionGroup var tls: TopicsTLSOptions

    func run() async throws {
      try await TopicsCommand.run {
        let engine = try TopicURL.engine(url)
        let topics = try await tls.opener().topics(engine, for: .reading)
        var (rows, lines) = ([[String]](), "")
        for name in try await topics.names() {
          // One that has gone meanwhile is not listed.
          guard let summary = try await topics.topic(name).summary() else { continue }
          if json {
            lines += summary.json(name) + "\n"
          } else {
            rows.append([name, "\(summary.count)", "\(summary.byteCount)", summary.newestTime?.timeText ?? "-"])
          }
        }
        await topics.close()
        return rows.isEmpty ? lines : TopicsCommand.table([["NAME", "MESSAGES", "BYTES", "NEWEST"]] + rows)
      }
    }
  }

  struct Info: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Show what a topic has, and the positions of its beginning and its end.")

    @Argument(help: "The topic.")
    var url: String

    @Flag(help: "Write a line of JSON.")
    var json = false

    @OptionGroup var tls: TopicsTLSOptions

    func run() async throws {
      try await TopicsCommand.run {
        let (topics, topic) = try await TopicsCommand.open(url, tls, for: .reading)
        let summary = try await TopicsCommand.summary(of: topic)
        await topics.close()
        if json { return summary.json(topic.name) + "\n" }
        return TopicsCommand.table([
          ["topic", topic.name], ["messages", "\(summary.count)"], ["bytes", "\(summary.byteCount)"],
          ["oldest", summary.earliestTime?.timeText ?? "-"], ["newest", summary.newestTime?.timeText ?? "-"],
          ["before the oldest", "\(summary.earliest)"], ["behind the newest", "\(summary.newest)"],
        ])
      }
    }
  }

  struct Trim: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Trim a topic, the oldest messages first. The newest message stays.",
      discussion: "Readers that have not read what is trimmed are told that it is lost.")

    @Argument(help: "The topic.")
    var url: String

    @OptionGroup var limits: LogLimitOptions
    @OptionGroup var tls: TopicsTLSOptions

    func validate() throws {
      if limits.isEmpty { throw ValidationError("--max-age, --max-bytes or --max-count must say what is kept.") }
    }

    func run() async throws {
      try await TopicsCommand.run {
        // It must be there: nothing is made.
        let (readable, known) = try await TopicsCommand.open(url, tls, for: .reading)
        _ = try await TopicsCommand.summary(of: known)
        await readable.close()
        let (topics, topic) = try await TopicsCommand.open(url, tls, for: .appending)
        let count = try await topic.trim(to: limits.limits)
        let left = try await topic.summary()?.count ?? 0
        await topics.close()
        return "\(count) messages were trimmed, \(left) are left\n"
      }
    }
  }

  // MARK: what they share

  private static func open(
    _ url: String, _ tls: TopicsTLSOptions, for use: TopicOpener.Use
  ) async throws -> (Topics, Topic) {
    let parsed = try TopicURL(url)
    guard let name = parsed.name(with: [:]) else {
      throw UsageError("'{…}' in a topic's name stands for nothing here")
    }
    let topics = try await tls.opener().topics(parsed.engine, for: use)
    return (topics, try topics.topic(name))
  }

  private static func summary(of topic: Topic) async throws -> TopicSummary {
    guard let summary = try await topic.summary() else { throw NoSuchTopic(name: topic.name) }
    return summary
  }

  /// Writes what `body` has to say.
  private static func run(_ body: () async throws -> String) async throws {
    do {
      let output = StandardStream.output()
      try await output.write(Bytes(try await body()))
      try await output.close()
    } catch StreamError.closed {
      // Whoever read has had enough.
    } catch {
      Diagnostics(isVerbose: false, isQuiet: false).error(error)
      throw ExitCode(ExitStatus(error).rawValue)
    }
  }

  /// Columns side by side.
  private static func table(_ rows: [[String]]) -> String {
    var widths: [Int] = []
    for row in rows {
      for (index, cell) in row.enumerated() {
        if index == widths.count { widths.append(0) }
        widths[index] = max(widths[index], cell.utf8.count)
      }
    }
    return rows.map { row in
      let cells = row.enumerated().map { index, cell in
        index == row.count - 1 ? cell : cell + String(repeating: " ", count: widths[index] - cell.utf8.count)
      }
      return cells.joined(separator: "  ") + "\n"
    }.joined()
  }
}

/// A topic that nobody has appended to.
struct NoSuchTopic: Error, CustomStringConvertible {
  let name: String
  var description: String { "topic \(name) has no messages" }
}

/// How a server of topics is trusted.
struct TopicsTLSOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Trust only the certificates in this PEM file, for topic+rediss: and topic+tls+nats:.", valueName: "FILE"))
  var ca: String?

  func opener() throws -> TopicOpener {
    var tls = TopicTLS(authorities: ca)
    if let ca {
      var options = TLSClientOptions()
      options.trust = .file(FilePath(ca))
      tls.context = try TLSClientContext(options)
    }
    return TopicOpener(
      try TopicCommandOptions.parse([]), event: nil, writesJSON: false, maxMessage: nil,
      tls: tls, Diagnostics(isVerbose: false, isQuiet: true))
  }
}

extension TopicSummary {
  /// As an object on one line.
  fileprivate func json(_ name: String) -> String {
    func time(_ time: Duration?) -> String { time.map { "\"\($0.timeText)\"" } ?? "null" }
    return "{\"topic\":\"\(name)\",\"messages\":\(count),\"bytes\":\(byteCount),\"oldest\":\(time(earliestTime)),"
      + "\"newest\":\(time(newestTime)),\"earliest\":\"\(earliest)\",\"position\":\"\(self.newest)\"}"
  }
}
