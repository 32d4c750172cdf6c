import Sluice
import SluiceIO
import SluiceStreams
import Synchronization

/// A terminal and its user at the two ends of a WebSocket, by the subprotocol `sluice-terminal`.
///
/// Binary messages are what is typed and what is shown. Text messages are the user's: `window COLUMNSxROWS`, whenever that changes, and `credit BYTES`, by a user that takes no more than it
/// has asked for: a page, whose browser would hold whatever comes. Other texts count for nothing.
enum TerminalProtocol {
  static let name = "sluice-terminal"
}

/// The user of a terminal of ours.
final class TerminalUser: DuplexStream, Sendable {
  typealias Output = Bytes
  typealias Input = Bytes

  private let socket: WebSocket
  private let resize: @Sendable (ChildProcess.WindowSize) -> Void
  private struct State {
    /// Bytes that the user takes; nil for any number.
    var credit: Int?
    var isReading = false
    var hasEnded = false
    var waiting: CheckedContinuation<Void, Never>?
  }
  private let state = Mutex(State())

  private static let maxCredit = 1 << 30

  init(_ socket: WebSocket, resizing resize: @escaping @Sendable (ChildProcess.WindowSize) -> Void) {
    self.socket = socket
    self.resize = resize
  }

  var endsAsOne: Bool { true }

  func read() async throws -> Bytes? {
    state.withLock { $0.isReading = true }
    defer { change { $0.isReading = false } }
    while true {
      let message: Message?
      do { message = try await socket.read() } catch {
        end()
        throw error
      }
      guard let message else {
        end()
        return nil
      }
      if !message.isText { return message.bytes }
      obey(message.text)
    }
  }

  private func obey(_ text: String) {
    let words = text.split(separator: " ")
    guard words.count == 2 else { return }
    switch words[0] {
    case "window": if let window = WindowArgument(argument: String(words[1])) { resize(window.size) }
    case "credit":
      guard let count = Int(words[1]), (1...Self.maxCredit).contains(count) else { return }
      change { $0.credit = Swift.min(($0.credit ?? 0) + count, Self.maxCredit) }
    default: break
    }
  }

  func write(_ bytes: Bytes) async throws {
    while !spend(bytes.count) {
      try Task.checkCancellation()
      await waitForChange()
    }
    try await socket.send(bytes)
  }

  /// - Returns: false if the user takes nothing more now. While nothing is read of what the user says, because the command takes nothing, nobody is waited for: the credit may stand behind that.
  private func spend(_ count: Int) -> Bool {
    state.withLock { state in
      if let credit = state.credit {
        if credit <= 0, state.isReading, !state.hasEnded { return false }
        state.credit = credit - count
      }
      return true
    }
  }

  private func waitForChange() async {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let mustWait = state.withLock { state in
          if Task.isCancelled || state.hasEnded || !state.isReading || state.credit ?? 1 > 0 { return false }
          state.waiting = continuation
          return true
        }
        if !mustWait { continuation.resume() }
      }
    } onCancel: {
      change { _ in }
    }
  }

  private func change(_ change: (inout State) -> Void) {
    let waiting = state.withLock { state in
      change(&state)
      return state.waiting.take()
    }
    waiting?.resume()
  }

  private func end() { change { $0.hasEnded = true } }

  func cancel(_ reason: (any Error)?) {
    end()
    socket.cancel(reason)
  }

  func close() async throws { try await socket.close() }
  func close(after failure: any Error) async throws { try await socket.close(after: failure) }

  func abort(_ reason: any Error) {
    end()
    socket.abort(reason)
  }
}

/// A terminal at the other end, which has the window of ours.
final class FarTerminal: DuplexStream, Sendable {
  typealias Output = Bytes
  typealias Input = Bytes

  private let socket: WebSocket
  private let changes = Signals([.windowChange])
  private let telling: Task<Void, any Error>

  init(_ socket: WebSocket) {
    self.socket = socket
    let changes = changes
    telling = Task {
      try await Self.tellWindow(to: socket)
      for try await _ in changes { try await Self.tellWindow(to: socket) }
    }
  }

  deinit { stop() }

  private static func tellWindow(to socket: WebSocket) async throws {
    guard let window = PassedTerminal.window else { return }
    try await socket.send("window \(window.columns)x\(window.rows)")
  }

  private func stop() {
    changes.cancel()
    telling.cancel()
  }

  var endsAsOne: Bool { true }

  func read() async throws -> Bytes? {
    while let message = try await socket.read() {
      if !message.isText { return message.bytes }
    }
    stop()
    return nil
  }

  func write(_ bytes: Bytes) async throws { try await socket.send(bytes) }

  func cancel(_ reason: (any Error)?) {
    stop()
    socket.cancel(reason)
  }

  func close() async throws { try await socket.close() }
  func close(after failure: any Error) async throws { try await socket.close(after: failure) }

  func abort(_ reason: any Error) {
    stop()
    socket.abort(reason)
  }
}
