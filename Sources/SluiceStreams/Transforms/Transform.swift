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
  @usableFromInline package private(set) var hasEnded = false
  /// Whether the transform has more to give: it paused.
  public private(set) var isPaused = false

  /// Elements that are enough for one call. Each costs more than the few bytes that it may be made of.
  private static var fill: Int { 64 }

  public init() {}

  /// Whether a transform that has more to give had better pause.
  public var isFull: Bool { elements.count >= Self.fill }

  /// Says that there is more, which `Transform.resume` gives: for a transform that makes many elements of one, so that they are made as they are
  /// wanted. What is left is also to be given, first of all, by the next `transform`, and by `finish`.
  public mutating func pause() {
    Reached.mark("transform.paused")
    isPaused = true
  }

  /// Goes on.
  @usableFromInline
  mutating func unpause() { isPaused = false }

  @inlinable
  public mutating func append(_ element: consuming Element) {
    elements.append(element)
  }

  /// Takes back what was appended first: for a transform made of others.
  @inlinable
  public mutating func popFirst() -> Element? { elements.popFirst() }

  @usableFromInline package var isEmpty: Bool { elements.isEmpty }

  /// What was appended first, as much as is enough for one call.
  mutating func takeFill() -> [Element] {
    let taken = Array(elements.prefix(Self.fill))
    elements.removeFirst(taken.count)
    return taken
  }

  /// Puts back what was taken.
  package mutating func prepend(_ element: consuming Element) { elements.prepend(element) }

  /// Nothing will follow: the source is cancelled, and the stream ends behind what was appended. Of a sink's transform: the
  /// sink is closed behind what was appended, and takes no more.
  public mutating func end() { hasEnded = true }
}

extension TransformOutput: Sendable where Element: Sendable {}
