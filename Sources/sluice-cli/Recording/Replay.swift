import Sluice
import SluiceStreams
import Synchronization

/// Plays what came from one side of a recorded connection, and hears what the other side says now.
final class Replay: Sendable {
  private let reader: RecordingReader
  private let side: Side
  private let connection: Int
  private let speed: ReplaySpeed
  private let heard = Heard()
  private let state: Mutex<State>
  /// Whether messages were recorded, and not bytes.
  let movesMessages: Bool

  private struct State {
    /// The next event, which was looked at.
    var next: RecordedEvent?
    /// When the playing has begun, and what time of the recording that is.
    var start: (now: ContinuousClock.Instant, recorded: Duration)?
    /// Of the other side, before the next event.
    var expected = Amount()
    var end: End?
    /// Waits for the time of the next event.
    var sleeper: Task<Void, any Error>?
  }

  private enum End {
    case ended
    case failed(any Error)
  }

  /// Opens a recording, as far as what it consists of.
  init(_ path: String, as side: Side, _ options: RecordingOptions, _ diagnostics: Diagnostics) async throws {
    reader = try await RecordingReader(path, diagnostics)
    self.side = side
    connection = options.playConnection
    speed = options.speed
    var opening: Duration?
    while let event = try await reader.read() {
      guard event.connection == connection else { continue }
      opening = opening ?? event.time
      if case .opened = event.content { continue }
      if case .bytes = event.content { movesMessages = false } else { movesMessages = true }
      var state = State()
      state.next = event
      state.start = opening.map { (ContinuousClock.now, $0) }
      self.state = Mutex(state)
      return
    }
    reader.cancel()
    throw RecordingError(path: path, what: "nothing was recorded of connection \(connection)")
  }

  var messages: any DuplexStream<Message, Message> {
    let played = Played(self).compactMap { content in
      switch content {
      case .message(let message): message
      case .bytes(let bytes): Message(kind: .binary, bytes: bytes)
      default: nil
      }
    }
    return JoinedStream(reading: played, writing: heard.sink(of: Message.self) { $0.bytes.count })
  }

  var bytes: any DuplexStream<Bytes, Bytes> {
    JoinedStream(reading: Played(self).compactMap(\.bytes), writing: heard.sink(of: Bytes.self) { $0.count })
  }

  // MARK: playing

  fileprivate func read() async throws -> PassageContent? {
    while true {
      switch state.withLock(\.end) {
      case .ended: return nil
      case .failed(let error): throw error
      case nil: break
      }
      do {
        guard let event = try await next() else { return finish(.ended) }
        if event.side != side {
          if event.side != nil, event.content.bytes != nil {
            state.withLock { $0.expected.add(event.content.bytes?.count ?? 0) }
          }
          drop()
          continue
        }
        guard try await waitForTurn(of: event) else { return finish(.ended) }
        drop()
        switch event.content {
        case .message, .bytes: return event.content
        case .ended: return finish(.ended)
        case .failed(let reason): throw ReplayedFailure(reason: reason)
        case .opened: continue
        }
      } catch {
        if !(error is CancellationError) {
          _ = finish(.failed(error))
          reader.cancel()
        }
        throw error
      }
    }
  }

  private func finish(_ end: End) -> PassageContent? {
    state.withLock { $0.end = $0.end ?? end }
    return nil
  }

  private func next() async throws -> RecordedEvent? {
    while true {
      if let event = state.withLock(\.next) { return event }
      guard let event = try await reader.read() else { return nil }
      if event.connection == connection { state.withLock { $0.next = event } }
    }
  }

  private func drop() { state.withLock { $0.next = nil } }

  /// - Returns: whether it has come: not if nobody wants it any more.
  private func waitForTurn(of event: RecordedEvent) async throws -> Bool {
    switch speed {
    case .max: return true
    case .step:
      let expected = state.withLock(\.expected)
      switch try await heard.wait(for: expected, countingMessages: movesMessages) {
      case .come: return true
      case .cancelled: return false
      case .ended(let amount): throw MissingAnswer(expected: expected, got: amount, countsMessages: movesMessages)
      }
    case .times(let factor):
      let due = state.withLock { state in
        let start = state.start ?? (.now, event.time)
        state.start = start
        return start.now + (event.time - start.recorded) / factor
      }
      if due <= .now { return state.withLock { $0.end == nil } }
      let sleeper = Task { try await Task.sleep(until: due, clock: .continuous) }
      let isWanted = state.withLock { state in
        if state.end == nil { state.sleeper = sleeper }
        return state.end == nil
      }
      guard isWanted else { return false }
      let result = await withTaskCancellationHandler {
        await sleeper.result
      } onCancel: {
        sleeper.cancel()
      }
      if state.withLock({ $0.end != nil }) { return false }
      try result.get()
      return true
    }
  }

  fileprivate func cancel() {
    let sleeper = state.withLock { state in
      state.end = state.end ?? .ended
      return state.sleeper
    }
    sleeper?.cancel()
    heard.cancel()
    reader.cancel()
  }

  private struct Played: ReadableStream {
    let replay: Replay

    init(_ replay: Replay) { self.replay = replay }

    func read() async throws -> PassageContent? { try await replay.read() }
    func cancel(_ reason: (any Error)?) { replay.cancel() }
  }
}

/// How much came from a side.
struct Amount: Sendable {
  var messages = 0
  var bytes = 0

  mutating func add(_ byteCount: Int) {
    messages += 1
    bytes += byteCount
  }

  func reaches(_ expected: Amount, countingMessages: Bool) -> Bool {
    countingMessages ? messages >= expected.messages : bytes >= expected.bytes
  }

  func text(countingMessages: Bool) -> String {
    countingMessages ? "\(messages) message\(messages == 1 ? "" : "s")" : "\(bytes) byte\(bytes == 1 ? "" : "s")"
  }
}

/// What the other side has said so far.
private final class Heard: Sendable {
  enum Outcome {
    case come
    case ended(Amount)
    case cancelled
  }
  private struct State {
    var amount = Amount()
    var hasEnded = false
    var isCancelled = false
    var waiting: CheckedContinuation<Void, Never>?
  }
  private let state = Mutex(State())

  func sink<Element: Sendable>(
    of _: Element.Type, _ count: @escaping @Sendable (Element) -> Int
  ) -> Writable<Element> {
    let end = { @Sendable in self.change { $0.hasEnded = true } }
    return Writable(
      onClose: { end() }, onAbort: { _ in end() },
      { element in
        let bytes = count(element)
        self.change { $0.amount.add(bytes) }
      })
  }

  func cancel() { change { $0.isCancelled = true } }

  private func change(_ change: (inout State) -> Void) {
    let waiting = state.withLock { state in
      change(&state)
      return state.waiting.take()
    }
    waiting?.resume()
  }

  /// One waits at a time.
  /// - Throws: `CancellationError`.
  func wait(for expected: Amount, countingMessages: Bool) async throws -> Outcome {
    while true {
      let outcome: Outcome? = state.withLock { state in
        if state.isCancelled { return .cancelled }
        if state.amount.reaches(expected, countingMessages: countingMessages) { return .come }
        return state.hasEnded ? .ended(state.amount) : nil
      }
      if let outcome { return outcome }
      try Task.checkCancellation()
      await withTaskCancellationHandler {
        await withCheckedContinuation { continuation in
          let mayWait = state.withLock { state in
            if Task.isCancelled || state.isCancelled || state.hasEnded { return false }
            if state.amount.reaches(expected, countingMessages: countingMessages) { return false }
            state.waiting = continuation
            return true
          }
          if !mayWait { continuation.resume() }
        }
      } onCancel: {
        change { _ in }
      }
    }
  }
}

/// The recorded connection had failed here.
struct ReplayedFailure: Error, CustomStringConvertible {
  let reason: String

  var description: String { "as recorded: \(reason)" }
}

/// The other side has ended before it had said as much as in the recording.
struct MissingAnswer: Error, CustomStringConvertible {
  let expected: Amount
  let got: Amount
  let countsMessages: Bool

  var description: String {
    "the other side has ended after \(got.text(countingMessages: countsMessages)), before the \(expected.text(countingMessages: countsMessages)) of the recording"
  }
}
