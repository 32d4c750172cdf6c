import ArgumentParser

/// What is looked for at the first word. Not as subcommands of `SluiceCommand`: the parser would take the word for a SOURCE.
struct Subcommands: ParsableCommand {
  static let names: Set = ["demo", "topics"]

  static let configuration = CommandConfiguration(
    commandName: "sluice", subcommands: [DemoCommand.self, TopicsCommand.self])
}

/// All that can be typed, in one tree: nothing is parsed with it, but completions for shells and the manual page are made of it.
struct WholeCommandLine: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sluice", abstract: SluiceCommand.configuration.abstract,
    discussion: SluiceCommand.configuration.discussion, version: Version.current,
    subcommands: Subcommands.configuration.subcommands)

  @OptionGroup var connection: SluiceCommand
}
