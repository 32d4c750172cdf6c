import SluiceStreams
import Synchronization

/// Writes to a topic with a window of appends under way, so that a pipe is not held to one round trip for each message.
///
/// `write` returns when the window has room; `close` when all is stored. An append that fails is thrown by the next `write`, or by `close`, and nothing that
/// was written behind it is stored.
public final class TopicWriter: WritableStream {
  public typealias Input = TopicContent

  private struct State {
    var count = 0
    var byteCount = 0
    var isWriting = false
    var end = End.open
    /// Resumed whenever there are fewer appends under way.
    var change: SharedResult<Void>?
    var last: Position?
  }
  private enum End {
    case open
    case closed
    case failed(any Error)
  }
  private let state = Mutex(State())
  private let core: TopicCore
  private var options: TopicsOptions { core.options }

  init(_ core: TopicCore) { self.core = core }

  /// Where the newest message stands that has been stored for this writer.
  public var position: Position? { state.withLock { $0.last } }

  public nonisolated(nonsending) func write(_ content: TopicContent) async throws {
    try state.withLock { state in
      if state.isWriting { throw StreamError.concurrentWrite }
      state.isWriting = true
    }
    defer { state.withLock { $0.isWriting = false } }
    if try writeAtOnce(content) { return }
    let (maxCount, maxBytes) = (max(options.writeWindow, 1), options.writeWindowBytes)
    try await waitForChange { state in
      switch state.end {
      case .open: state.count < maxCount && (state.count == 0 || state.byteCount + content.byteCount <= maxBytes)
      case .closed: throw StreamError.closed
      case .failed(let error): throw error
      }
    }
    let byteCount = content.byteCount
    state.withLock { state in
      state.count += 1
      state.byteCount += byteCount
    }
    do {
      try await core.appender.submit(content) { [self] in didAppend($0, byteCount: byteCount) }
    } catch {
      release(byteCount, nil)
      throw error
    }
  }

  /// Where nothing is under way, and the engine need not wait.
  private func writeAtOnce(_ content: TopicContent) throws -> Bool {
    let isIdle = state.withLock { state in
      if case .open = state.end { state.count == 0 } else { false }
    }
    guard isIdle, let position = try core.appender.appendAtOnce(content) else { return false }
    state.withLock { $0.last = position }
    return true
  }

  private func didAppend(_ result: Result<Position, any Error>, byteCount: Int) {
    release(byteCount, result)
  }

  private func release(_ byteCount: Int, _ result: Result<Position, any Error>?) {
    let change = state.withLock { state -> SharedResult<Void>? in
      state.count -= 1
      state.byteCount -= byteCount
      switch result {
      case .success(let position): state.last = position
      case .failure(let error): if case .failed = state.end {} else { state.end = .failed(error) }
      case nil: break
      }
      defer { state.change = nil }
      return state.change
    }
    change?.finish(.success(()))
  }

  private nonisolated(nonsending) func waitForChange(until isDone: (borrowing State) throws -> Bool) async throws {
    while true {
      let change = try state.withLock { state -> SharedResult<Void>? in
        if try isDone(state) { return nil }
        if let change = state.change { return change }
        let change = SharedResult<Void>()
        state.change = change
        return change
      }
      guard let change else { return }
      try await change.value()
    }
  }

  /// Returns when all that was written is stored.
  /// - Throws: what an append failed with; `CancellationError`, and what is under way may be stored or not.
  public func close() async throws {
    state.withLock { if case .open = $0.end { $0.end = .closed } }
    try await waitForChange { $0.count == 0 }
    if case .failed(let error) = state.withLock({ $0.end }) { throw error }
  }

  /// Takes no more. What is under way may be stored or not.
  public func abort(_ reason: any Error) {
    let change = state.withLock { state -> SharedResult<Void>? in
      if case .failed = state.end {} else { state.end = .failed(reason) }
      defer { state.change = nil }
      return state.change
    }
    change?.finish(.success(()))
  }
}
