/// The operators of a readable stream. Each gives a stream that reads this one as it is read; what a closure throws fails
/// the result and cancels this stream.
extension ReadableStream {
  // Inlined, so that what treats an element is compiled where its type is known.

  /// Each element, transformed.
  @inlinable
  @inline(__always)
  public func map<R: Sendable>(
    _ body: @escaping @Sendable (Output) throws -> R
  ) -> TransformedStream<Self, ElementTransform<Output, R>> {
    pipe(through: ElementTransform { element, output in output.append(try body(element)) })
  }

  /// Each element, transformed, without those that become nil.
  @inlinable
  @inline(__always)
  public func compactMap<R: Sendable>(
    _ body: @escaping @Sendable (Output) throws -> R?
  ) -> TransformedStream<Self, ElementTransform<Output, R>> {
    pipe(through: ElementTransform { element, output in if let result = try body(element) { output.append(result) } })
  }

  /// The elements for which `isIncluded` holds.
  @inlinable
  @inline(__always)
  public func filter(
    _ isIncluded: @escaping @Sendable (Output) throws -> Bool
  ) -> TransformedStream<Self, ElementTransform<Output, Output>> {
    pipe(through: ElementTransform { element, output in if try isIncluded(element) { output.append(element) } })
  }

  /// The elements of what each element becomes, one after the other.
  @inlinable
  @inline(__always)
  public func flatMap<R: Sendable>(
    _ body: @escaping @Sendable (Output) throws -> [R]
  ) -> TransformedStream<Self, ElementTransform<Output, R>> {
    pipe(through: ElementTransform { element, output in for result in try body(element) { output.append(result) } })
  }

  /// The first `count` elements; then this stream is cancelled. With 0 or less, nothing is read of it.
  ///
  /// Written directly behind `for try await … in`, Swift takes `AsyncSequence.prefix` instead: that leaves this stream as it
  /// is behind the elements, as leaving a loop does.
  @inlinable
  @inline(__always)
  public func prefix(_ count: Int) -> TransformedStream<Self, PrefixTransform<Output>> {
    pipe(through: PrefixTransform(count))
  }

  /// What has become of `initial` with each element.
  ///
  /// ```swift
  /// numbers.scan(0, +)     // 1, 2, 3 → 1, 3, 6
  /// ```
  @inlinable
  @inline(__always)
  public func scan<R: Sendable>(
    _ initial: R, _ body: @escaping @Sendable (R, Output) throws -> R
  ) -> TransformedStream<Self, ScanTransform<Output, R>> {
    pipe(through: ScanTransform(state: initial, body: body))
  }
}

/// A transform that treats each element for itself.
public struct ElementTransform<Input: Sendable, Output: Sendable>: Transform {
  @usableFromInline let body: @Sendable (Input, inout TransformOutput<Output>) throws -> Void

  @inlinable
  public init(_ body: @escaping @Sendable (Input, inout TransformOutput<Output>) throws -> Void) { self.body = body }

  @inlinable
  public func transform(_ input: consuming Input, into output: inout TransformOutput<Output>) throws {
    try body(input, &output)
  }
}

/// See `ReadableStream.prefix`.
public struct PrefixTransform<Element: Sendable>: Transform {
  @usableFromInline var left: Int

  @usableFromInline
  init(_ count: Int) { left = count }

  public mutating func start(into output: inout TransformOutput<Element>) {
    if left <= 0 { output.end() }
  }

  @inlinable
  public mutating func transform(_ input: consuming Element, into output: inout TransformOutput<Element>) {
    output.append(input)
    left -= 1
    if left == 0 { output.end() }
  }
}

/// See `ReadableStream.scan`.
public struct ScanTransform<Input: Sendable, Output: Sendable>: Transform {
  @usableFromInline var state: Output
  @usableFromInline let body: @Sendable (Output, Input) throws -> Output

  @inlinable
  init(state: Output, body: @escaping @Sendable (Output, Input) throws -> Output) {
    self.state = state
    self.body = body
  }

  @inlinable
  public mutating func transform(_ input: consuming Input, into output: inout TransformOutput<Output>) throws {
    state = try body(state, input)
    output.append(state)
  }
}
