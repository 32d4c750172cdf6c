import Sluice
import SluiceIO
import SluiceStreams
import SluiceWebSocketProtocol
import Synchronization

/// What stands on a line of a recording.
struct RecordedEvent: Sendable {
  /// Since the beginning.
  let time: Duration
  let connection: Int
  let side: Side?
  let content: PassageContent
}

/// Reads a recording line by line.
final class RecordingReader: Sendable {
  private let path: String
  private let lines: any ReadableStream<Bytes>
  private let diagnostics: Diagnostics
  private struct State {
    var line = 0
    var lastTime = Duration.zero
  }
  private let state = Mutex(State())

  /// A character may be written with six.
  private static let longestLine = 6 * MessageAssembler.defaultMaxMessageSize + 4096

  init(_ path: String, _ diagnostics: Diagnostics) async throws {
    self.path = path
    self.diagnostics = diagnostics
    lines = try await File.open(FilePath(path)).pipe(
      through: DelimiterDecoder(UInt8(ascii: "\n"), limit: Self.longestLine))
  }

  func cancel() { lines.cancel(nil) }

  /// The next event, or nil at the end. A last line that is torn is told, and is the end.
  func read() async throws -> RecordedEvent? {
    while let line = try await lines.read() {
      let number = state.withLock { state in
        state.line += 1
        return state.line
      }
      if line.allSatisfy({ $0 == 0x20 || $0 == 0x0D || $0 == 0x09 }) { continue }
      do {
        if let event = try event(of: line) { return event }
      } catch {
        guard number > 1, try await lines.read() == nil else {
          throw RecordingError(path: path, line: number, what: error.what)
        }
        diagnostics.notice("\(path):\(number): the recording is torn here (\(error.what)): what stands before is all")
        return nil
      }
    }
    return nil
  }

  private struct Malformed: Error {
    let what: String
  }

  /// - Returns: nil for a header.
  private func event(of line: Bytes) throws(Malformed) -> RecordedEvent? {
    guard let object = RecordedLine(line) else { throw Malformed(what: "not an object of JSON as a recording has it") }
    if let version = object.recording {
      guard version == Double(RecordingFormat.version) else {
        throw Malformed(what: "version \(version) of recordings is unknown here, only \(RecordingFormat.version)")
      }
      return nil
    }
    guard let kind = object.kind else { throw Malformed(what: "no \"kind\"") }
    let side = try side(object, of: kind)
    let content: PassageContent
    switch kind {
    case "open": content = .opened
    case "end": content = .ended
    case "error": content = .failed(object.reason ?? "an error")
    case "bytes": content = .bytes(try data(object))
    case "binary": content = .message(Message(kind: .binary, bytes: try data(object)))
    case "text":
      let text = try data(object)
      // What is in Base64 may be anything.
      guard UTF8Validator.isValid(text.span) else { throw Malformed(what: "a text that is not UTF-8") }
      content = .message(Message(kind: .text, bytes: text))
    default: throw Malformed(what: "unknown kind '\(kind)'")
    }
    let connection = object.connection ?? 1
    guard let connection = Int(exactly: connection), connection > 0 else {
      throw Malformed(what: "\"connection\" must be 1 or more")
    }
    return RecordedEvent(time: try time(object), connection: connection, side: side, content: content)
  }

  private func side(_ object: RecordedLine, of kind: String) throws(Malformed) -> Side? {
    guard let name = object.from else {
      if kind == "open" { return nil }
      throw Malformed(what: "no \"from\"")
    }
    guard let side = Side(rawValue: name) else {
      throw Malformed(what: "\"from\" must be source or target, not '\(name)'")
    }
    return side
  }

  /// Without one, that of the line before.
  private func time(_ object: RecordedLine) throws(Malformed) -> Duration {
    guard let seconds = object.time else { return state.withLock(\.lastTime) }
    guard seconds >= 0, seconds <= Double(EndingOptions.forEver) else {
      throw Malformed(what: "\"time\" must be seconds, 0 to a year")
    }
    let time = Duration.seconds(seconds)
    state.withLock { $0.lastTime = time }
    return time
  }

  private func data(_ object: RecordedLine) throws(Malformed) -> Bytes {
    if let text = object.data { return Bytes(text) }
    guard let text = object.base64 else { throw Malformed(what: "neither \"data\" nor \"base64\"") }
    guard let bytes = Base64.decode(Bytes(text)) else { throw Malformed(what: "\"base64\" is no Base64") }
    return Bytes(bytes)
  }
}

/// A recording that can't be played.
struct RecordingError: Error, CustomStringConvertible {
  let path: String
  var line: Int?
  let what: String

  var description: String { "\(path):\(line.map { "\($0): " } ?? " ")\(what)" }
}
