import ArgumentParser

/// What the command line says of recordings, and of what is played back.
struct RecordingOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Record what passes, in both directions and with its times, as lines of JSON; replay:FILE plays it back.",
      valueName: "FILE"))
  var record: String?

  @Option(
    help: ArgumentHelp(
      "Log what passes: time, connection, endpoint, kind, size and text, a line each; '-' is standard error.",
      valueName: "FILE"))
  var log: String?

  @Flag(help: "In the log, show data as hexadecimal and ASCII.")
  var logHex = false

  @Option(
    help: ArgumentHelp(
      "How fast replay: plays: at N times its speed; 'max' without waiting; 'step' each element when as much as in the recording has come from the other side.",
      valueName: "N|max|step"))
  var speed = ReplaySpeed.times(1)

  @Option(
    help: ArgumentHelp(
      "What replay: plays: what came from the 'source' of the recording, or from its 'target'. Default: what stands where replay: does.",
      valueName: "source|target"))
  var play: Side?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Which connection of a recorded server replay: plays.", valueName: "N"))
  var playConnection = 1

  func validate() throws {
    if logHex && log == nil { throw ValidationError("--log-hex needs --log FILE.") }
    if record == "-" { throw ValidationError("--record needs a file: standard output has what passes itself.") }
    for (option, path) in [("--record", record), ("--log", log)] where path?.isEmpty == true {
      throw ValidationError("\(option) needs the name of a file.")
    }
    if playConnection < 1 { throw ValidationError("--play-connection must be 1 or more, not \(playConnection).") }
  }
}

extension Side: ExpressibleByArgument {}

/// How fast a recording is played.
enum ReplaySpeed: ExpressibleByArgument, Hashable, Sendable {
  case times(Double)
  case max
  /// Each element once what was recorded before it has come from the other side.
  case step

  init?(argument: String) {
    switch argument {
    case "max": self = .max
    case "step": self = .step
    default:
      guard let factor = Double(argument), factor >= 0.001, factor <= 1_000_000 else { return nil }
      self = .times(factor)
    }
  }

  var defaultValueDescription: String { "1" }
}
