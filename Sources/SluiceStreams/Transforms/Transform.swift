import DequeModule

/// A synchronous stage of a pipe: elements of one kind in, elements of another out.
///
/// ```swift
/// struct Deduplicate: Transform {
///   var last: String?
///   mutating func transform(_ line: consuming String, into output: inout TransformOutput<String>) {
///     if line != last { output.append(line) }
///     last = line
///   }
/// }
/// let distinct = file.lines.pipe(through: Deduplicate())
/// ```
public protocol Transform<Input, Output>: Sendable {
  associatedtype Input: Sendable
  associatedtype Output: Sendable

  /// Is called once, before anything else: gives what stands before all elements, or ends at once. Does nothing by default.
  mutating func start(into output: inout TransformOutput<Output>) throws

  /// Takes an element. It may give none, one or several. What it throws cancels the source; what was given before still arrives.
  mutating func transform(_ input: consuming Input, into output: inout TransformOutput<Output>) throws

  /// The source has ended, or failed: gives what is still held.
  mutating func finish(into output: inout TransformOutput<Output>) throws
}

extension Transform {
  public mutating func start(into output: inout TransformOutput<Output>) throws {}
  public mutating func finish(into output: inout TransformOutput<Output>) throws {}
}

/// What a transform gives, in order.
public struct TransformOutput<Element> {
  @usableFromInline var elements = Deque<Element>()
  /// Whether nothing will follow, whatever the source still has.
  package private(set) var hasEnded = false

  public init() {}

  @inlinable
  public mutating func append(_ element: consuming Element) {
    elements.append(element)
  }

  /// Takes back what was appended first: for a transform made of others.
  @inlinable
  public mutating func popFirst() -> Element? { elements.popFirst() }

  package var isEmpty: Bool { elements.isEmpty }

  /// Puts back what was taken.
  package mutating func prepend(_ element: consuming Element) { elements.prepend(element) }

  /// Nothing will follow: the source is cancelled, and the stream ends behind what was appended. Of a sink's transform: the
  /// sink is closed behind what was appended, and takes no more.
  public mutating func end() { hasEnded = true }
}

/// A transform and what it has given: the state of a stage, on whichever side of a stream it stands.
struct TransformStage<T: Transform> {
  private var transform: T
  private var output = TransformOutput<T.Output>()
  private var phase = Phase.unstarted

  private enum Phase {
    case unstarted
    case open
    case ended
    case failed(any Error)
  }

  enum Next {
    case element(T.Output)
    /// `start` is to be called.
    case needsStart
    case needsInput
    case end
  }

  init(_ transform: T) { self.transform = transform }

  mutating func next() throws -> Next {
    if let element = output.elements.popFirst() { return .element(element) }
    switch phase {
    case .unstarted: return .needsStart
    case .open: return .needsInput
    case .ended: return .end
    case .failed(let error): throw error
    }
  }

  /// - Returns: whether it wants no input.
  mutating func start() throws -> Bool {
    guard case .unstarted = phase else { return false }
    do {
      try transform.start(into: &output)
    } catch {
      phase = .failed(error)
      throw error
    }
    phase = output.hasEnded ? .ended : .open
    return output.hasEnded
  }

  /// - Returns: whether it wants no more.
  mutating func accept(_ element: consuming T.Input) throws -> Bool {
    guard case .open = phase else { return true }
    do {
      try transform.transform(element, into: &output)
    } catch {
      phase = .failed(error)
      throw error
    }
    if output.hasEnded { phase = .ended }
    return output.hasEnded
  }

  mutating func finish() throws {
    _ = try start()
    guard case .open = phase else { return }
    do {
      try transform.finish(into: &output)
      phase = .ended
    } catch {
      phase = .failed(error)
      throw error
    }
  }

  /// The source has failed: what is still held comes before the failure. What finishing throws says less than that.
  mutating func fail(_ failure: any Error) {
    _ = try? start()
    guard case .open = phase else { return }
    try? transform.finish(into: &output)
    phase = .failed(failure)
  }

  /// What it has failed with, by itself or after its source; nil while it has not.
  var failure: (any Error)? {
    if case .failed(let error) = phase { error } else { nil }
  }

  /// Puts back what `next` gave and could not be handed on.
  mutating func putBack(_ element: consuming T.Output) { output.prepend(element) }

  /// Nobody takes what it gives any more.
  /// - Parameter error: What is thrown from now on; nil is an end.
  mutating func drop(_ error: (any Error)? = nil) {
    output.elements.removeAll()
    phase = error.map { .failed($0) } ?? .ended
  }
}
