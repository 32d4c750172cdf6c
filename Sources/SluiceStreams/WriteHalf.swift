/// How far a writable half has come towards its end, and who waits for that: for streams whose end takes its time.
///
/// A value that calls nothing: what is called might look at the stream again.
package enum WriteHalf {
  package typealias Completion = @Sendable ((any Error)?) -> Void

  case open
  case closing([Completion])
  case closed
  case failed(any Error)

  /// What is left to do for one who closes.
  package enum Closing {
    /// The end begins with this.
    case begin
    /// It is under way; `end` gives the completion with the others.
    case wait
    /// It was there before: the completion is to be called.
    case done((any Error)?)
  }

  package mutating func close(_ completion: @escaping Completion) -> Closing {
    switch self {
    case .open:
      self = .closing([completion])
      return .begin
    case .closing(let waiting):
      self = .closing(waiting + [completion])
      return .wait
    case .closed: return .done(nil)
    case .failed(let error): return .done(error)
    }
  }

  /// It has ended, or failed.
  /// - Returns: who waited for that, to be called with the error.
  package mutating func end(_ error: (any Error)?) -> [Completion] {
    var waiting: [Completion] = []
    if case .closing(let completions) = self { waiting = completions }
    self = error.map { .failed($0) } ?? .closed
    return waiting
  }

  /// What writing throws where it is not open.
  package var refusal: any Error {
    if case .failed(let error) = self { error } else { StreamError.closed }
  }
}
