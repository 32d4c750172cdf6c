import Synchronization

/// An `AsyncSequence`, or a `Sequence`, as a readable stream.
///
/// ```swift
/// try await SequenceStream(["one", "two"]).pipe(sink)
/// ```
public final class SequenceStream<Output: Sendable>: ReadableStream {
  private let next: Mutex<(@Sendable () async throws -> Output?)?>
  private let isReading = Atomic<Bool>(false)

  /// The sequence is iterated once, as the stream is read.
  public init<S: AsyncSequence & Sendable>(_ sequence: S) where S.Element == Output {
    let box = IteratorBox(sequence.makeAsyncIterator())
    next = Mutex({ try await box.next() })
  }

  public init<S: Sequence & Sendable>(_ sequence: S) where S.Element == Output {
    let box = IteratorBox(SynchronousIterator(base: sequence.makeIterator()))
    next = Mutex({ try await box.next() })
  }

  public func read() async throws -> Output? {
    guard !isReading.exchange(true, ordering: .acquiring) else { throw StreamError.concurrentRead }
    defer { isReading.store(false, ordering: .releasing) }
    guard let next = next.withLock({ $0 }) else { return nil }
    let element = try await next()
    if element == nil { self.next.withLock { $0 = nil } }
    return element
  }

  /// Gives the sequence up.
  public func cancel(_ reason: (any Error)?) { next.withLock { $0 = nil } }
}

/// An iterator that one reader at a time uses: `SequenceStream.isReading` sees to that.
private final class IteratorBox<Iterator: AsyncIteratorProtocol>: @unchecked Sendable {
  private var iterator: Iterator
  init(_ iterator: Iterator) { self.iterator = iterator }
  func next() async throws -> Iterator.Element? { try await iterator.next() }
}

private struct SynchronousIterator<Base: IteratorProtocol>: AsyncIteratorProtocol {
  var base: Base
  mutating func next() async -> Base.Element? { base.next() }
}
