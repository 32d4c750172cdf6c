/// A readable stream made of a closure.
///
/// ```swift
/// let countdown = Readable { counter.next() }   // nil is the end
/// ```
public struct Readable<Output: Sendable>: ReadableStream {
  private let body: @Sendable () async throws -> Output?
  private let onCancel: @Sendable ((any Error)?) -> Void

  /// - Parameters:
  ///   - onCancel: Is called when nobody will read any more before the end.
  ///   - body: Gives the next element, or nil at the end; it must give nil, or throw, again after it did.
  public init(
    onCancel: @escaping @Sendable ((any Error)?) -> Void = { _ in },
    _ body: @escaping @Sendable () async throws -> Output?
  ) {
    self.body = body
    self.onCancel = onCancel
  }

  public func read() async throws -> Output? { try await body() }
  public func cancel(_ reason: (any Error)?) { onCancel(reason) }
}

/// A writable stream made of a closure, which is called for one element after the other.
///
/// ```swift
/// try await ws.pipe(Writable { message in print(message.text) })
/// ```
public struct Writable<Input: Sendable>: WritableStream {
  private let body: @Sendable (Input) async throws -> Void
  private let onClose: @Sendable () async throws -> Void
  private let onAbort: @Sendable (any Error) -> Void

  /// - Parameters:
  ///   - onClose: Is called at the end of what is written.
  ///   - onAbort: Is called instead when that was cut off: the source failed, or the pipe was cancelled. What was written before has been taken.
  public init(
    onClose: @escaping @Sendable () async throws -> Void = {},
    onAbort: @escaping @Sendable (any Error) -> Void = { _ in },
    _ body: @escaping @Sendable (Input) async throws -> Void
  ) {
    self.body = body
    self.onClose = onClose
    self.onAbort = onAbort
  }

  public func write(_ element: Input) async throws { try await body(element) }
  public func close() async throws { try await onClose() }
  /// Nothing is queued here that an abort could lose.
  public func close(after failure: any Error) async throws { onAbort(failure) }
  public func abort(_ reason: any Error) { onAbort(reason) }
}
