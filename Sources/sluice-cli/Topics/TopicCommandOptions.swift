import ArgumentParser
import SluiceTopics

/// What the command line says of topics.
struct TopicCommandOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Where reading begins: with what is appended from 'now' on, at the 'earliest' message, at the newest N ('last:N'), or behind a POSITION. A client of a server that says where it was (Last-Event-ID) goes on there.",
      valueName: "now|earliest|last:N|POSITION"))
  var from: TopicStart?

  @Flag(help: "End when the newest message of now has been read, instead of waiting for more.")
  var noFollow = false

  @OptionGroup var limits: LogLimitOptions

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "How long an append is tried, also over new connections, before that is an error.", valueName: "SECONDS"))
  var appendTimeout: Double = 10

  /// As long as an engine remembers what it has stored, with something to spare: after that it could store it twice.
  private static let longestAppend: Double = 1800

  func validate() throws {
    guard appendTimeout > 0, appendTimeout <= Self.longestAppend else {
      throw ValidationError(
        "--append-timeout must be a number of seconds, more than 0 and at most half an hour, not \(appendTimeout).")
    }
  }

  var beginning: TopicBeginning { from?.beginning ?? .now }
}

/// How much of a log is kept.
struct LogLimitOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Keep messages for so long: seconds, or with m, h, d or w minutes, hours, days or weeks. Older ones are trimmed when something is appended. Without any of these three, a log keeps 100,000 messages and 64M.",
      valueName: "TIME"))
  var maxAge: AgeArgument?

  @Option(
    help: ArgumentHelp(
      "Keep so many bytes of messages; with K, M or G times 1024 once, twice, thrice.", valueName: "BYTES"))
  var maxBytes: BytesArgument?

  @Option(parsing: .unconditional, help: ArgumentHelp("Keep so many messages.", valueName: "N"))
  var maxCount: Int?

  func validate() throws {
    if let maxCount, maxCount < 1 { throw ValidationError("--max-count must be 1 or more, not \(maxCount).") }
  }

  var isEmpty: Bool { maxAge == nil && maxBytes == nil && maxCount == nil }

  /// What is said counts alone: who keeps a week means all of it.
  var limits: LogLimits {
    isEmpty ? LogLimits() : LogLimits(count: maxCount ?? .max, bytes: maxBytes?.count, age: maxAge?.age)
  }
}

struct TopicStart: ExpressibleByArgument, Sendable {
  let beginning: TopicBeginning

  init?(argument: String) {
    switch argument {
    case "now": beginning = .now
    case "earliest": beginning = .earliest
    default:
      if argument.hasPrefix("last:") {
        guard let count = Int(argument.dropFirst(5)), count > 0 else { return nil }
        beginning = .last(count)
      } else {
        guard let position = Position(argument) else { return nil }
        beginning = .after(position)
      }
    }
  }
}

/// A time as it is written: `90`, `1.5h`, `7d`.
struct AgeArgument: ExpressibleByArgument, Sendable {
  let age: Duration

  init?(argument: String) {
    let units: [Character: Double] = ["s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800]
    let unit = argument.last.flatMap { units[$0] }
    guard let number = Double(unit == nil ? argument[...] : argument.dropLast()), number > 0,
      number * (unit ?? 1) <= 100 * 31_536_000
    else { return nil }
    age = .seconds(number * (unit ?? 1))
  }
}

/// A number of bytes as it is written: `1000`, `64M`.
struct BytesArgument: ExpressibleByArgument, Sendable {
  let count: Int

  init?(argument: String) {
    let units: [Character: Int] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30]
    let unit = argument.last.flatMap { units[$0] }
    guard let number = Int(unit == nil ? argument[...] : argument.dropLast()), number > 0 else { return nil }
    let (count, isTooMuch) = number.multipliedReportingOverflow(by: unit ?? 1)
    guard !isTooMuch else { return nil }
    self.count = count
  }
}
