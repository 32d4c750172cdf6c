/// What a pipe leaves undone when it ends. By default it closes, aborts and cancels.
public struct PipeOptions: Hashable, Sendable {
  /// The source ended: leave the sink open, for something else to be written behind it.
  public var preventClose: Bool
  /// The source failed, or the pipe was cancelled: leave the sink as it is.
  public var preventAbort: Bool
  /// The sink failed or was closed, or the pipe was cancelled: leave the source as it is.
  public var preventCancel: Bool

  public init(preventClose: Bool = false, preventAbort: Bool = false, preventCancel: Bool = false) {
    self.preventClose = preventClose
    self.preventAbort = preventAbort
    self.preventCancel = preventCancel
  }
}
