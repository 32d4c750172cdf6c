/// A loop that lets go of whoever asked last for the end of the turn, and has done now what it was for: a pipe flushes what it has pushed.
package protocol EndOfTurnCancelling: Loop {
  /// - Returns: false if somebody else has asked since: then the end of the turn is told.
  func cancelEndOfTurn(_ work: any EndOfTurn) -> Bool
}

/// A sink that gathers what is pushed during a turn of its loop, and sends it at the end of that: it calls `flushAtEndOfTurn` when it takes something.
///
/// One that stands on another sink hands what it has gathered on by `sendAtOnce`, so that the two are not told of the same turn's end.
@usableFromInline
package protocol GatheringSink: PolledWritableStream, EndOfTurn {
  /// Whether the loop has been asked for the end of this turn.
  var isFlushScheduled: Bool { get set }
}

extension GatheringSink {
  @inlinable
  package func flushAtEndOfTurn() {
    assertOnLoop()
    if isFlushScheduled { return }
    isFlushScheduled = true
    loop.atEndOfTurn(self)
  }

  @inlinable
  public func endOfTurn() {
    isFlushScheduled = false
    flush()
  }
}
