import Synchronization

/// What a pipe leaves undone when it ends. By default it closes, aborts and cancels.
public struct PipeOptions: Sendable {
  /// The source ended: leave the sink open, for something else to be written behind it.
  public var preventClose: Bool
  /// The source failed, behind something that is still to be delivered: how long the sink may take nothing of that before it is aborted.
  /// A slow sink that takes something is not. Default: 30 seconds.
  public var stallTimeout = PipeOptions.defaultStallTimeout
  /// The source failed, or the pipe was cancelled: leave the sink as it is.
  public var preventAbort: Bool
  /// The sink failed or was closed, or the pipe was cancelled: leave the source as it is.
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
