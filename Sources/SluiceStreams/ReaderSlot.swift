/// The place of a stream's one reader. A value that calls nobody: `ReaderHolding` wakes who has it.
///
/// It is no larger than the reference that it holds: an idle connection has several.
@usableFromInline
package struct ReaderSlot: Sendable {
  @usableFromInline
  enum State: Sendable {
    case free
    case taken(any Waker)
    /// The reader runs, and is not here meanwhile.
    case running
    /// The same, and it has been woken once more.
    case wokenAgain
  }
  @usableFromInline var state = State.free

  @inlinable
  package init() {}

  @inlinable package var isTaken: Bool {
    if case .free = state { false } else { true }
  }

  /// The reader; nil also while it runs.
  package var waker: (any Waker)? {
    if case .taken(let waker) = state { waker } else { nil }
  }

  /// - Throws: `StreamError.concurrentRead` if there is a reader.
  @inlinable
  package mutating func attach(_ waker: any Waker) throws {
    if isTaken { throw StreamError.concurrentRead }
    state = .taken(waker)
  }

  @inlinable
  package mutating func detach() { state = .free }

  /// Moves the reader out, so that it is woken without being counted.
  /// - Returns: nil if there is none, or if it runs: then it runs again behind that.
  @inlinable
  mutating func beginWake() -> (any Waker)? {
    var moved = State.running
    swap(&moved, &state)
    switch consume moved {
    case .taken(let waker): return waker
    case .running, .wokenAgain:
      Reached.mark("reader.wokenWhileRunning")
      state = .wokenAgain
    case .free: state = .free
    }
    return nil
  }

  /// Moves the reader back, unless it was detached while it ran.
  /// - Returns: the reader, if it has been woken meanwhile.
  @inlinable
  mutating func endWake(_ waker: consuming any Waker) -> (any Waker)? {
    switch state {
    case .running: state = .taken(waker)
    case .wokenAgain:
      state = .running
      return waker
    case .free, .taken: break
    }
    return nil
  }
}

/// A stream that holds its reader itself: it has a slot, and calls `tellReader` when that may find something.
@usableFromInline
package protocol ReaderHolding: PolledReadableStream, AnyObject {
  /// Gives `body` the slot. (A property would be reached by a coroutine, which is not inlined into the wake of a message.)
  func withReader<R>(_ body: (inout ReaderSlot) throws -> R) rethrows -> R
}

extension ReaderHolding {
  @inlinable
  public func attachReader(_ waker: any Waker) throws {
    assertOnLoop()
    try withReader { try $0.attach(waker) }
  }

  @inlinable public var hasReader: Bool { withReader { $0.isTaken } }

  @inlinable
  public func detachReader() {
    assertOnLoop()
    withReader { $0.detach() }
  }

  /// Wakes the reader. A wake from inside of this comes behind it.
  @inlinable
  package func tellReader() {
    assertOnLoop()
    var next = withReader { $0.beginWake() }
    while let waker = next {
      waker.wakeReader()
      next = withReader { $0.endWake(waker) }
    }
  }
}
