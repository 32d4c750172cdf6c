/// What a watched descriptor belongs to, or a libuv handle, whose `data` is a reference to it, or nil.
protocol LoopResident: AnyObject {
  /// The loop was stopped: what waits on this fails with ECANCELED, and it is closed as soon as what is being closed
  /// already is flushed. On the loop, in a turn.
  func loopWillEnd()
}
