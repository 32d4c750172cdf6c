import Sluice
import SluiceIO
import SluiceStreams

/// Options and endpoints in a file, one in each line: the name without dashes, a blank, and the value as it is, up to the end of the line.
struct ConfigFile: Sendable {
  private struct Entry {
    let line: Int
    let name: String
    let value: String?

    var option: String { value.map { "--\(name)=\($0)" } ?? "--\(name)" }
    var isEndpoint: Bool { name == "source" || name == "target" }
  }

  private let path: String
  private let entries: [Entry]

  static let option = "--config"
  private static let maxBytes = 1 << 20

  /// Reads all of it.
  init(_ path: String) async throws(UsageError) {
    let content: Bytes
    do { content = try await File.open(FilePath(path)).collect(limit: Self.maxBytes) } catch {
      throw UsageError("can't read \(Self.option) \(path): \(error)")
    }
    guard let text = String(validating: content, as: UTF8.self) else {
      throw UsageError("\(Self.option) \(path) is not text: its bytes are no UTF-8")
    }
    self.path = path
    entries = try Self.entries(of: text, in: path)
  }

  private static func entries(of text: String, in path: String) throws(UsageError) -> [Entry] {
    var entries: [Entry] = []
    for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
      let line = line.withoutOuterBlanks
      if line.isEmpty || line.hasPrefix("#") { continue }
      let word = line.prefix { !$0.isWhitespace }
      let value = line.dropFirst(word.count).withoutOuterBlanks
      let entry = Entry(
        line: index + 1, name: String(word.hasPrefix("--") ? word.dropFirst(2) : word),
        value: value.isEmpty ? nil : String(value))
      if let fault = fault(of: entry, behind: entries) { throw UsageError("\(path):\(entry.line): \(fault)") }
      entries.append(entry)
    }
    return entries
  }

  private static func fault(of entry: Entry, behind others: [Entry]) -> String? {
    if entry.name.isEmpty { return "an option has a name" }
    if entry.name.hasPrefix("-") { return "'\(entry.name)' has to be written as its long name" }
    if entry.name.contains("=") { return "between a name and its value stands a blank, not '='" }
    if "--" + entry.name == option { return "a file can't name another one" }
    guard entry.isEndpoint else { return nil }
    if entry.value == nil { return "\(entry.name) has no endpoint, such as ws://127.0.0.1:8000" }
    if others.contains(where: { $0.name == entry.name }) { return "there is another \(entry.name) above" }
    return entry.name == "target" && !others.contains { $0.name == "source" } ? "target needs a source above it" : nil
  }

  /// As they stand on a command line. The endpoints come first, and the option that named the file last, so that nothing is taken for a value that is missing.
  private var arguments: [String] {
    entries.filter(\.isEndpoint).compactMap(\.value) + entries.filter { !$0.isEndpoint }.map(\.option)
      + ["\(Self.option)=\(path)"]
  }

  /// - Parameter complaint: What the parser says.
  /// - Returns: where the option stands that it speaks of, if it stands here.
  func place(of complaint: String) -> String? {
    let words = complaint.split { !$0.isLetter && !$0.isNumber && $0 != "-" }
    let entry = entries.first { entry in words.contains { $0 == "--\(entry.name)" } }
    return entry.map { "\(path):\($0.line)" }
  }
}

extension ConfigFile {
  /// Reads the files that a command line names.
  /// - Returns: the files, and the command line with what they say before all that it says itself, which so has the last word.
  static func expand(_ arguments: [String]) async throws(UsageError) -> (files: [ConfigFile], arguments: [String]) {
    var files: [ConfigFile] = []
    var typed: [String] = []
    var rest = arguments[...]
    while let word = rest.popFirst() {
      if word == "--" {
        typed += [word] + rest
        break
      } else if word == option, let path = rest.popFirst() {
        files.append(try await ConfigFile(path))
      } else if word.hasPrefix(option + "=") {
        files.append(try await ConfigFile(String(word.dropFirst(option.count + 1))))
      } else {
        typed.append(word)
      }
    }
    return (files, files.flatMap(\.arguments) + typed)
  }
}

extension Substring {
  fileprivate var withoutOuterBlanks: Substring {
    var text = self
    while let first = text.first, first.isWhitespace { text.removeFirst() }
    while let last = text.last, last.isWhitespace { text.removeLast() }
    return text
  }
}
