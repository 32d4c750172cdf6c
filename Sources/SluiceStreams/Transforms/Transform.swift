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

  /// Gives more of what the elements so far hold, after a call that has paused the output: is called when what it gave then has been taken, and no
  /// more elements are. Does nothing by default.
  mutating func resume(into output: inout TransformOutput<Output>) throws

  /// The source has ended, or failed: gives what is still held.
  mutating func finish(into output: inout TransformOutput<Output>) throws
}

extension Transform {
  public mutating func start(into output: inout TransformOutput<Output>) throws {}
  public mutating func resume(into output: inout TransformOutput<Output>) throws {}
  public mutating func finish(into output: inout TransformOutput<Output>) throws {}
}

/// What a transform gives, in order.
public struct TransformOutput<Element> {
  @usableFromInline var elements = Deque<Element>()
  /// Whether nothing will follow, whatever the source still has.
  package private(set) var hasEnded = false
  /// Whether the transform has more to give: it paused.
  public private(set) var isPaused = false

  /// Elements that are enough for one call. Each costs more than the few bytes that it may be made of.
  private static var fill: Int { 64 }

  public init() {}

  /// Whether a transform that has more to give had better pause.
  public var isFull: Bool { elements.count >= Self.fill }

  /// Says that there is more, which `Transform.resume` gives: for a transform that makes many elements of one, so that they are made as they are
  /// wanted. What is left is also to be given, first of all, by the next `transform`, and by `finish`.
  public mutating func pause() { isPaused = true }

  /// Goes on.
  mutating func unpause() { isPaused = false }

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
    /// `start` is to be called: the transform has something to give without an element.
    case needsStart
    case needsInput
    case end
  }

  init(_ transform: T) { self.transform = transform }

  mutating func next() throws -> Next {
    if let element = output.elements.popFirst() { return .element(element) }
    switch phase {
    case .unstarted: return .needsStart
    case .open: return output.isPaused ? .needsStart : .needsInput
    case .ended: return .end
    case .failed(let error): throw error
    }
  }

  /// Begins, or goes on after a pause.
  /// - Returns: whether it wants no input.
  mutating func start() throws -> Bool {
    do {
      switch phase {
      case .unstarted: try transform.start(into: &output)
      case .open where output.isPaused:
        output.unpause()
        try transform.resume(into: &output)
      case .open, .ended, .failed: return false
      }
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
    output.unpause()
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
    output.unpause()
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
