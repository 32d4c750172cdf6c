import Synchronization

extension ReadableStream {
  /// Each element, transformed by a closure that may wait. Elements are taken one at a time, in order.
  public func map<R: Sendable>(
    _ body: @escaping @Sendable (Output) async throws -> R
  ) -> some ReadableStream<R> {
    AsyncStage(self) { .some(try await body($0)) }
  }

  /// The elements for which `isIncluded`, which may wait, holds.
  public func filter(
    _ isIncluded: @escaping @Sendable (Output) async throws -> Bool
  ) -> some ReadableStream<Output> {
    AsyncStage(self) { try await isIncluded($0) ? $0 : nil }
  }
}

/// A stage whose closure may wait. What the closure throws cancels the source, and is thrown again at every read. An element
/// during which its reader is cancelled counts as read; the stage is as it was otherwise.
final class AsyncStage<Source: ReadableStream, Output: Sendable>: ReadableStream {
  private enum State {
    case idle
    case reading
    case failed(any Error)
  }
  private let source: Source
  private let body: @Sendable (Source.Output) async throws -> Output?
  private let state = Mutex(State.idle)

  init(_ source: Source, _ body: @escaping @Sendable (Source.Output) async throws -> Output?) {
    self.source = source
    self.body = body
  }

  func read() async throws -> Output? {
    try state.withLock { state in
      switch state {
      case .idle: state = .reading
      case .reading: throw StreamError.concurrentRead
      case .failed(let error): throw error
      }
    }
    do {
      let result = try await next()
      state.withLock { $0 = .idle }
      return result
    } catch {
      let isOurs = error is CancellationError && Task.isCancelled
      state.withLock { $0 = isOurs ? .idle : .failed(error) }
      if !isOurs { source.cancel(error) }
      throw error
    }
  }

  private func next() async throws -> Output? {
    while let element = try await source.read() {
      if let result = try await body(element) { return result }
    }
    return nil
  }

  func cancel(_ reason: (any Error)?) { source.cancel(reason) }
}
