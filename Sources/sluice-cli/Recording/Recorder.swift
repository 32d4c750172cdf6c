import Sluice
import SluiceIO
import SluiceStreams
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

extension Duration {
  /// What the clock on the wall says, since 1970-01-01.
  static var sinceEpoch: Duration {
    var now = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &now)
    return .seconds(Int64(now.tv_sec)) + .nanoseconds(Int64(now.tv_nsec))
  }
}

/// Writes down what passes the connections of a run: as a recording, as a log, or both.
final class Recorder: Sendable {
  private let journals: [Journal]
  private let lastConnection = Atomic<Int>(0)

  /// - Returns: nil if nothing is to be written.
  init?(_ options: RecordingOptions, source: Endpoint, target: Endpoint) {
    var journals: [Journal] = []
    if let path = options.record {
      journals.append(Journal(path, RecordingFormat(source: source.name, target: target.name)))
    }
    if let path = options.log { journals.append(Journal(path, LogFormat(showsHex: options.logHex))) }
    if journals.isEmpty { return nil }
    self.journals = journals
  }

  /// Creates the files.
  func open() async throws {
    for journal in journals { try await journal.open() }
  }

  /// Begins with a connection.
  func connection() async throws -> ConnectionRecording {
    let number = lastConnection.wrappingAdd(1, ordering: .relaxed).newValue
    let recording = ConnectionRecording(self, number: number)
    try await write(PassageEvent(connection: number, side: nil, content: .opened))
    return recording
  }

  fileprivate func write(_ event: PassageEvent) async throws {
    for journal in journals { try await journal.write(event) }
  }

  /// Waits until all is written.
  func close() async throws {
    var failure: (any Error)?
    for journal in journals {
      do { try await journal.close() } catch { failure = failure ?? error }
    }
    if let failure { throw failure }
  }
}

/// Where what one connection gives is written down.
final class ConnectionRecording: Sendable {
  private let recorder: Recorder
  private let number: Int
  private let ended = Mutex<Set<Side>>([])

  fileprivate init(_ recorder: Recorder, number: Int) {
    self.recorder = recorder
    self.number = number
  }

  func add(_ side: Side, _ content: PassageContent) async throws {
    try await recorder.write(PassageEvent(connection: number, side: side, content: content))
  }

  /// Says once how a side has ended, however often that is read.
  func end(_ side: Side, _ content: PassageContent) async throws {
    if ended.withLock({ $0.insert(side).inserted }) { try await add(side, content) }
  }
}

/// Something of a connection, as a line of a journal.
struct PassageEvent: Sendable {
  let connection: Int
  /// nil for what concerns both.
  let side: Side?
  let content: PassageContent
}

/// The form of a journal's lines. What is long is written in parts, so that a message is not held a second time, as text.
protocol JournalFormat: Sendable {
  /// What stands at the beginning of the file; empty for nothing.
  func header(startedAt time: Duration) -> String
  /// - Parameters:
  ///   - time: Since the beginning.
  ///   - start: The beginning, since 1970-01-01.
  func parts(of event: PassageEvent, at time: Duration, since start: Duration) -> JournalLine
}

/// A line: its beginning, its data in a form that is made piece by piece, and its end.
struct JournalLine: Sendable {
  var head: String
  var data = Bytes()
  /// Makes text of a piece of the data.
  var encode: @Sendable (_ piece: Bytes, _ offset: Int, inout BytesBuilder) -> Void = { _, _, _ in }
  /// The data is cut in such pieces, but within no character of UTF-8.
  var tail = "\n"
}

/// A file that lines are written to, one after the other, whole.
private final class Journal: Sendable {
  private let path: String
  private let format: any JournalFormat
  private let turn = WriteTurn()
  private let sink = Mutex<(any WritableStream<Bytes>)?>(nil)
  private let clock = ContinuousClock()
  private let start: ContinuousClock.Instant
  private let startTime: Duration

  /// Data of a piece: a multiple of what Base64 and hexadecimal lines are made of.
  private static let pieceSize = 96 << 10

  init(_ path: String, _ format: any JournalFormat) {
    self.path = path
    self.format = format
    start = clock.now
    startTime = .sinceEpoch
  }

  private static func standardError() -> any WritableStream<Bytes> {
    let output = StandardStream.error()
    return output.isTerminal ? output.behind(TerminalEscape()) : output
  }

  func open() async throws {
    let opened: any WritableStream<Bytes> =
      path == "-" ? Self.standardError() : try await File.create(FilePath(path))
    sink.withLock { $0 = opened }
    let header = format.header(startedAt: startTime)
    if !header.isEmpty { try await put(Bytes(header)) }
  }

  func write(_ event: PassageEvent) async throws {
    try await turn.beginWhenFree()
    defer { turn.end() }
    let line = format.parts(of: event, at: clock.now - start, since: startTime)
    guard line.data.count > Self.pieceSize else {
      var builder = BytesBuilder(capacity: line.head.utf8.count + 2 * line.data.count + 8)
      builder.append(line.head)
      line.encode(line.data, 0, &builder)
      builder.append(line.tail)
      return try await put(builder.take())
    }
    // A line that was begun is finished, whoever is cancelled meanwhile: another one follows it.
    try await Task(executorPreference: UVLoop.shared) { try await self.put(line) }.value
  }

  private func put(_ line: JournalLine) async throws {
    try await put(Bytes(line.head))
    var offset = 0
    while offset < line.data.count {
      let piece = line.data.dropFirst(offset).prefix(Self.pieceSize)
      var builder = BytesBuilder(capacity: 2 * piece.count)
      line.encode(piece, offset, &builder)
      offset += piece.count
      try await put(builder.take())
    }
    try await put(Bytes(line.tail))
  }

  private func put(_ bytes: Bytes) async throws {
    guard let sink = sink.withLock({ $0 }) else { return }
    do { try await sink.write(bytes) } catch is CancellationError { throw CancellationError() } catch {
      throw JournalError(path: path, reason: error)
    }
  }

  func close() async throws {
    guard let sink = sink.withLock({ $0 }) else { return }
    do { try await sink.close() } catch is CancellationError { throw CancellationError() } catch {
      throw JournalError(path: path, reason: error)
    }
  }
}

/// What passes can't be written down, and so does not pass.
struct JournalError: Error, CustomStringConvertible {
  let path: String
  let reason: any Error

  var description: String {
    if case StreamError.closed = reason { return "\(path): nobody reads the recording any more" }
    return "recording to \(path): \(reason)"
  }
}
