import Synchronization

/// The stage that the two ends of a stream share.
///
/// A transform is code of the application's, and may use this stream and others as it pleases: it runs while nobody is locked out, and what
/// happens to its stream meanwhile has its effect when it has returned.
@usableFromInline
final class SharedStage<T: Transform>: Sendable {
  @usableFromInline
  struct State: Sendable {
    /// nil while it runs.
    @usableFromInline var stage: TransformStage<T>?
    /// It was dropped while it ran, with this error or without one.
    @usableFromInline var drop: Drop?

    @inlinable
    init(_ transform: T) { stage = TransformStage(transform) }

    @inlinable
    mutating func giveBack(_ running: consuming TransformStage<T>) {
      if let drop = drop.take() { running.drop(drop.error) }
      stage = running
    }
  }
  @usableFromInline
  enum Drop: Sendable {
    case ended
    case failed(any Error)

    @usableFromInline var error: (any Error)? { if case .failed(let error) = self { error } else { nil } }
  }
  /// What has come of an element that was passed on.
  @usableFromInline
  enum Passage {
    /// What was made of it was given, and the next element may come.
    case settled
    /// There is more to give.
    case hasMore
    /// There is perhaps more to give, and then the end.
    case ended
    /// The transform has failed. What it gave before is to be given still.
    case failed(any Error)
  }
  @usableFromInline
  typealias Pass = @Sendable (SharedStage<T>, consuming T.Input, (consuming T.Output) throws -> Void) throws -> Passage

  private let dropped = Atomic<Bool>(false)
  /// As `TransformStage.isSettled`, so that it can be asked at each element. Is changed with the state only.
  @usableFromInline let settled = Atomic<Bool>(false)
  @usableFromInline let state: Mutex<State>
  private let specializedPass: Pass

  @inlinable
  convenience init(_ transform: T) {
    self.init(transform) { stage, input, give in try stage.passUnspecialized(input, give) }
  }

  /// - Parameter specializedPass: `passUnspecialized` as it is compiled where the transform's type is known. Where types are not known, most of the
  ///   time for a small element goes into finding their metadata, over and over: a message of 16 bytes became a line in 2.3 µs of the processor, and
  ///   does in 0.3.
  @usableFromInline
  init(_ transform: T, specializedPass: @escaping Pass) {
    state = Mutex(State(transform))
    self.specializedPass = specializedPass
  }

  /// - Throws: what the stage has failed with; `StreamError.concurrentRead` from inside of its own transform.
  func next() throws -> TransformStage<T>.Next {
    try withStage { stage in
      guard let next = try stage?.next() else { throw StreamError.concurrentRead }
      return next
    }
  }

  /// Runs a step of the stage.
  /// - Throws: what the step throws; `StreamError.concurrentRead` from inside of another one.
  func run<R>(_ step: (inout TransformStage<T>) throws -> R) throws -> R {
    var stage = try take()
    defer { giveBack(stage) }
    return try step(&stage)
  }

  /// Whether an element may be passed on: the transform takes one, and has nothing to give before.
  var isSettled: Bool { settled.load(ordering: .relaxed) }

  /// Has the transform take an element, and gives what it makes of it if that is one. To be called while `isSettled`.
  /// - Parameter give: Runs when the stage may be used again.
  /// - Throws: what `give` throws; `StreamError.concurrentRead` from inside of its own transform.
  func pass(_ element: consuming T.Input, _ give: (consuming T.Output) throws -> Void) throws -> Passage {
    try specializedPass(self, element, give)
  }

  @inlinable
  func passUnspecialized(_ element: consuming T.Input, _ give: (consuming T.Output) throws -> Void) throws -> Passage {
    var stage = try take()
    let hasEnded: Bool
    do { hasEnded = try stage.accept(element) } catch {
      giveBack(stage)
      return .failed(error)
    }
    let first = stage.output.popFirst()
    let isSettled = stage.isSettled
    giveBack(stage)
    if let first { try give(first) }
    return isSettled ? .settled : hasEnded ? .ended : .hasMore
  }

  @inlinable
  func take() throws -> TransformStage<T> {
    let stage = state.withLock { state in
      settled.store(false, ordering: .relaxed)
      return state.stage.take()
    }
    guard let stage else { throw StreamError.concurrentRead }
    return stage
  }

  @inlinable
  func giveBack(_ stage: consuming TransformStage<T>) {
    // A closure can't consume what it captures; the box is emptied inside.
    var box = Optional(stage)
    withState { state in if let stage = box.take() { state.giveBack(stage) } }
  }

  /// Uses the state, and notes whether it is settled afterwards.
  @inlinable
  func withState<R>(_ body: (inout State) throws -> R) rethrows -> R {
    try state.withLock { state in
      defer { settled.store(state.stage?.isSettled ?? false, ordering: .relaxed) }
      return try body(&state)
    }
  }

  private func withStage<R>(_ body: (inout TransformStage<T>?) throws -> R) rethrows -> R {
    try withState { try body(&$0.stage) }
  }

  /// Whether nobody takes what it gives any more.
  var isDropped: Bool { dropped.load(ordering: .relaxed) }

  /// Of what was given already, some at once; nothing from inside of its own transform.
  func takeReady() -> [T.Output] { withStage { $0?.takeReady() ?? [] } }

  /// Puts back what `takeReady` gave and could not be handed on, unless it was dropped meanwhile.
  func putBack(_ rest: ArraySlice<T.Output>) { withStage { if !isDropped { $0?.putBack(rest) } } }

  func putBack(_ element: T.Output) { withStage { $0?.putBack(element) } }

  /// Nobody takes what it gives any more.
  /// - Parameter error: What is thrown from now on; nil is an end.
  func drop(_ error: (any Error)? = nil) {
    withState { state in
      dropped.store(true, ordering: .relaxed)
      if state.stage == nil { state.drop = error.map { .failed($0) } ?? .ended }
      state.stage?.drop(error)
    }
  }

  var failure: (any Error)? { withStage { $0?.failure } }
}
