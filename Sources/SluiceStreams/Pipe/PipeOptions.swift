import Synchronization

/// What a pipe does not do when it ends. By default it closes, aborts and cancels.
public struct PipeOptions: Sendable {
  /// When the source ends, leave the sink open, so that more can be written to it.
  public var preventClose: Bool
  /// When the source has failed and there is data still to be delivered: how long the sink may read nothing of it before it is aborted. A slow sink
  /// that makes progress is not. Default: 30 seconds.
  public var stallTimeout = PipeOptions.defaultStallTimeout
  /// When the source fails, or the pipe is cancelled, leave the sink as it is.
  public var preventAbort: Bool
  /// When the sink fails or is closed, or the pipe is cancelled, leave the source as it is.
  public var preventCancel: Bool

  public static let defaultStallTimeout = Duration.seconds(30)

  /// Is told that the pipe has moved something.
  @usableFromInline package var activity: PipeActivity?

  public init(preventClose: Bool = false, preventAbort: Bool = false, preventCancel: Bool = false) {
    self.preventClose = preventClose
    self.preventAbort = preventAbort
    self.preventCancel = preventCancel
  }
}

/// Counts how often a pipe moved something: what a time limit on silence is measured by.
@usableFromInline
package final class PipeActivity: Sendable {
  private let moves = Atomic<Int>(0)

  package init() {}

  package var count: Int { moves.load(ordering: .relaxed) }

  package func didMove() { moves.wrappingAdd(1, ordering: .relaxed) }

  /// The inside of a pipe that is counted.
  @usableFromInline
  func counting(_ drain: @escaping () -> PipeStep) -> () -> PipeStep {
    {
      let step = drain()
      if case .waiting(hasMoved: true) = step { self.didMove() }
      return step
    }
  }
}
