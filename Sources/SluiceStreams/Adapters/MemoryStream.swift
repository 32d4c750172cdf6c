import DequeModule
import Synchronization

/// One end of an in-memory connection: what one end writes, the other reads. It lives on no loop.
///
/// ```swift
/// let (client, server) = MemoryStream<Bytes>.pair()
/// ```
///
/// A write waits while `highWatermark` elements are unread. Closing one end's write half is the end of the other's reading; closed after a
/// failure, that throws it behind the last element. An abort fails both halves of both.
public final class MemoryStream<Element: Sendable>: DuplexStream {
  public typealias Output = Element
  public typealias Input = Element

  private let incoming: MemoryChannel<Element>
  private let outgoing: MemoryChannel<Element>

  private init(_ incoming: MemoryChannel<Element>, _ outgoing: MemoryChannel<Element>) {
    self.incoming = incoming
    self.outgoing = outgoing
  }

  /// Two ends, connected to each other.
  /// - Parameter highWatermark: Elements that may be unread in each direction before a write waits, 1 or more. Default: 16.
  public static func pair(highWatermark: Int = 16) -> (MemoryStream, MemoryStream) {
    let (there, back) = (MemoryChannel<Element>(highWatermark), MemoryChannel<Element>(highWatermark))
    return (MemoryStream(back, there), MemoryStream(there, back))
  }

  public func read() async throws -> Element? { try await incoming.read() }
  public func cancel(_ reason: (any Error)?) { incoming.cancel() }
  public func write(_ element: Element) async throws { try await outgoing.write(element) }
  public func close() async throws { outgoing.close() }
  public func close(after failure: any Error) async throws { outgoing.close(after: failure) }
  public func abort(_ reason: any Error) {
    outgoing.fail(reason)
    incoming.fail(reason)
  }
}

/// One direction of a memory connection.
private final class MemoryChannel<Element: Sendable>: Sendable {
  private struct State {
    var elements = Deque<Element>()
    var end = End.open
    var reader: CheckedContinuation<Void, Never>?
    var writer: CheckedContinuation<Void, Never>?
    var isReading = false
    var isWriting = false
  }
  private enum End {
    case open
    case closed
    /// What is unread comes before the failure.
    case closedAfter(any Error)
    case cancelled
    case failed(any Error)
  }
  private enum Step<R> {
    case done(R)
    case wait
  }

  private let state = Mutex(State())
  private let highWatermark: Int

  init(_ highWatermark: Int) { self.highWatermark = Swift.max(highWatermark, 1) }

  func read() async throws -> Element? {
    try state.withLock { state in
      if state.isReading { throw StreamError.concurrentRead }
      state.isReading = true
    }
    defer { state.withLock { $0.isReading = false } }
    while true {
      switch try state.withLock({ try Self.take(&$0) }) {
      case .done(let element): return element
      case .wait: try await wait(\.reader) { if case .open = $0.end { $0.elements.isEmpty } else { false } }
      }
    }
  }

  private static func take(_ state: inout State) throws -> Step<Element?> {
    if let element = state.elements.popFirst() {
      state.writer.take()?.resume()
      return .done(element)
    }
    switch state.end {
    case .open: return .wait
    case .closed, .cancelled: return .done(nil)
    case .failed(let error), .closedAfter(let error): throw error
    }
  }

  func write(_ element: Element) async throws {
    try state.withLock { state in
      if state.isWriting { throw StreamError.concurrentWrite }
      state.isWriting = true
    }
    defer { state.withLock { $0.isWriting = false } }
    while true {
      let step = try state.withLock { state -> Step<Void> in
        switch state.end {
        case .open: break
        case .closed, .closedAfter, .cancelled: throw StreamError.closed
        case .failed(let error): throw error
        }
        guard state.elements.count < highWatermark else { return .wait }
        state.elements.append(element)
        state.reader.take()?.resume()
        return .done(())
      }
      if case .done = step { return }
      let limit = highWatermark
      try await wait(\.writer) { if case .open = $0.end { $0.elements.count >= limit } else { false } }
    }
  }

  /// Suspends while `mustWait` holds, until the continuation at `slot` is resumed.
  private func wait(
    _ slot: WritableKeyPath<State, CheckedContinuation<Void, Never>?> & Sendable,
    while mustWait: @Sendable (borrowing State) -> Bool
  ) async throws {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        state.withLock { state in
          if mustWait(state) && !Task.isCancelled { state[keyPath: slot] = continuation } else { continuation.resume() }
        }
      }
    } onCancel: {
      state.withLock { $0[keyPath: slot].take()?.resume() }
    }
    try Task.checkCancellation()
  }

  func close() { end(.closed) }
  func close(after failure: any Error) { end(.closedAfter(failure)) }
  func cancel() { end(.cancelled) }
  func fail(_ error: any Error) { end(.failed(error)) }

  private func end(_ end: End) {
    state.withLock { state in
      switch (state.end, end) {
      case (.open, _): state.end = end
      // What was closed and is not read to its end is cut off: the reader must not take what it got for everything.
      case (.closed, .failed), (.closedAfter, .failed): if !state.elements.isEmpty { state.end = end }
      case (.closed, _), (.closedAfter, _), (.cancelled, _), (.failed, _): break
      }
      switch end {
      case .cancelled, .failed: state.elements.removeAll()
      case .open, .closed, .closedAfter: break
      }
      state.reader.take()?.resume()
      state.writer.take()?.resume()
    }
  }
}
