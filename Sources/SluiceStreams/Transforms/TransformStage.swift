/// A transform and what it has given: the state of a stage, on whichever side of a stream it stands.
@usableFromInline
struct TransformStage<T: Transform>: Sendable {
  @usableFromInline var transform: T
  @usableFromInline var output = TransformOutput<T.Output>()
  @usableFromInline var phase = Phase.unstarted

  @usableFromInline
  enum Phase: Sendable {
    case unstarted
    case open
    case ended
    case failed(any Error)
  }

  enum Next {
    case element(T.Output)
    /// The transform has something to give without an element: `start` is to be called.
    case needsStart
    case needsInput
    case end
  }

  @inlinable
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
  @inlinable
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

  /// Whether it takes an element, and has nothing to give before.
  @inlinable
  var isSettled: Bool {
    guard case .open = phase, output.isEmpty else { return false }
    return !output.isPaused
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
    Reached.mark("transform.sourceFailedWithin")
    try? transform.finish(into: &output)
    phase = .failed(failure)
  }

  /// What it has failed with, by itself or after its source; nil while it has not.
  var failure: (any Error)? {
    if case .failed(let error) = phase { error } else { nil }
  }

  /// Puts back what `next` gave and could not be handed on.
  mutating func putBack(_ element: consuming T.Output) {
    Reached.mark("transform.putBack")
    output.prepend(element)
  }

  /// Of what was given already, some at once.
  mutating func takeReady() -> [T.Output] { output.isEmpty ? [] : output.takeFill() }

  /// Puts back what `takeReady` gave and could not be handed on.
  mutating func putBack(_ rest: ArraySlice<T.Output>) {
    for element in rest.reversed() { output.prepend(element) }
  }

  /// Nobody takes what it gives any more.
  /// - Parameter error: What is thrown from now on; nil is an end.
  @usableFromInline
  mutating func drop(_ error: (any Error)? = nil) {
    output.elements.removeAll()
    phase = error.map { .failed($0) } ?? .ended
  }
}
