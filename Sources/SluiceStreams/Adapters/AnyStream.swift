/// A readable stream whose type is not told; pipes find the gear of what is inside.
public struct AnyReadable<Output: Sendable>: ReadableStream {
  let base: any ReadableStream<Output>

  public init(_ base: any ReadableStream<Output>) { self.base = base }

  public func read() async throws -> Output? { try await base.read() }
  public func cancel(_ reason: (any Error)?) { base.cancel(reason) }
}

/// A writable stream whose type is not told; pipes find the gear of what is inside.
public struct AnyWritable<Input: Sendable>: WritableStream {
  let base: any WritableStream<Input>

  public init(_ base: any WritableStream<Input>) { self.base = base }

  public func write(_ element: Input) async throws { try await base.write(element) }
  public func close() async throws { try await base.close() }
  public func close(after failure: any Error) async throws { try await base.close(after: failure) }
  public func abort(_ reason: any Error) { base.abort(reason) }
}

extension AnyReadable: SplitReadable {
  package var readableHalf: any ReadableStream<Output> { base }
}

extension AnyWritable: SplitWritable {
  package var writableHalf: any WritableStream<Input> { base }
}

extension AnyWritable: SelfFailing {
  package var hasFailed: Bool { (base as? any SelfFailing)?.hasFailed ?? false }
}
