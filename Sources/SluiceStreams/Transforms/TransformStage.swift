import Synchronization

/// A transform and what it has given: the state of a stage, on whichever side of a stream it stands.
struct TransformStage<T: Transform>: Sendable {
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
    /// The transform has something to give without an element: `start` is to be called.
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
  mutating func drop(_ error: (any Error)? = nil) {
    output.elements.removeAll()
    phase = error.map { .failed($0) } ?? .ended
  }
}

/// The stage that the two ends of a stream share.
///
/// A transform is code of the application's, and may use this stream and others as it pleases: it runs while nobody is locked out, and what
/// happens to its stream meanwhile has its effect when it has returned.
final class SharedStage<T: Transform>: Sendable {
  private struct State {
    /// nil while it runs.
    var stage: TransformStage<T>?
    /// It was dropped while it ran, with this error or without one.
    var drop: Drop?
  }
  private enum Drop {
    case ended
    case failed(any Error)

    var error: (any Error)? { if case .failed(let error) = self { error } else { nil } }
  }
  private let dropped = Atomic<Bool>(false)
  private let state: Mutex<State>

  init(_ transform: T) { state = Mutex(State(stage: TransformStage(transform))) }

  /// - Throws: what the stage has failed with; `StreamError.concurrentRead` from inside of its own transform.
  func next() throws -> TransformStage<T>.Next {
    try state.withLock { state in
      guard let next = try state.stage?.next() else { throw StreamError.concurrentRead }
      return next
    }
  }

  /// Runs a step of the stage.
  /// - Throws: what the step throws; `StreamError.concurrentRead` from inside of another one.
  func run<R>(_ step: (inout TransformStage<T>) throws -> R) throws -> R {
    guard var stage = state.withLock({ $0.stage.take() }) else { throw StreamError.concurrentRead }
    defer { giveBack(stage) }
    return try step(&stage)
  }

  private func giveBack(_ stage: consuming TransformStage<T>) {
    var box = Optional(stage)
    state.withLock { state in
      state.stage = box.take()
      if let drop = state.drop.take() { state.stage?.drop(drop.error) }
    }
  }

  /// Whether nobody takes what it gives any more.
  var isDropped: Bool { dropped.load(ordering: .relaxed) }

  /// Of what was given already, some at once; nothing from inside of its own transform.
  func takeReady() -> [T.Output] { state.withLock { $0.stage?.takeReady() ?? [] } }

  /// Puts back what `takeReady` gave and could not be handed on, unless it was dropped meanwhile.
  func putBack(_ rest: ArraySlice<T.Output>) { state.withLock { if !isDropped { $0.stage?.putBack(rest) } } }

  func putBack(_ element: T.Output) { state.withLock { $0.stage?.putBack(element) } }

  /// Nobody takes what it gives any more.
  /// - Parameter error: What is thrown from now on; nil is an end.
  func drop(_ error: (any Error)? = nil) {
    state.withLock { state in
      dropped.store(true, ordering: .relaxed)
      if state.stage == nil { state.drop = error.map { .failed($0) } ?? .ended }
      state.stage?.drop(error)
    }
  }

  var failure: (any Error)? { state.withLock { $0.stage?.failure } }
}
