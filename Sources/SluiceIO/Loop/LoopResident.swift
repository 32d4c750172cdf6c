/// What a libuv handle belongs to: the handle's `data` is a reference to it, or nil.
protocol LoopResident: AnyObject {
  /// The loop was stopped: what waits on this fails with ECANCELED, and the handle is closed as soon as what is being closed
  /// already is flushed. On the loop, in a turn.
  func loopWillEnd()
}
