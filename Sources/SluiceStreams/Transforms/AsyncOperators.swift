extension ReadableStream {
  /// Each element, transformed by a closure that may wait. Elements are taken one at a time, in order.
  public func map<R: Sendable>(
    _ body: @escaping @Sendable (Output) async throws -> R
  ) -> AsyncStage<Self, R> {
    AsyncStage(self) { .some(try await body($0)) }
  }

  /// The elements for which `isIncluded`, which may wait, holds.
  public func filter(
    _ isIncluded: @escaping @Sendable (Output) async throws -> Bool
  ) -> AsyncStage<Self, Output> {
    AsyncStage(self) { try await isIncluded($0) ? $0 : nil }
  }
}

/// A stage whose closure may wait. An element during which its reader is cancelled counts as read.
public struct AsyncStage<Source: ReadableStream, Output: Sendable>: ReadableStream {
  private let source: Source
  private let body: @Sendable (Source.Output) async throws -> Output?

  init(_ source: Source, _ body: @escaping @Sendable (Source.Output) async throws -> Output?) {
    self.source = source
    self.body = body
  }

  public func read() async throws -> Output? {
    while let element = try await source.read() {
      do {
        if let result = try await body(element) { return result }
      } catch {
        source.cancel(error)
        throw error
      }
    }
    return nil
  }

  public func cancel(_ reason: (any Error)?) { source.cancel(reason) }
}
