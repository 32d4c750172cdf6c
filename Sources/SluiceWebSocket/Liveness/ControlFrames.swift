import SluiceStreams

/// Looks at control frames, which are dealt with already, and at the end of the connection. On the connection's loop.
protocol ControlObserver: AnyObject {
  func didReceivePing(_ payload: Bytes)
  func didReceivePong(_ payload: Bytes)
  /// The connection is over, though messages that it has received may still be unread.
  func connectionIsOver()
}

/// What one connection has to keep of its control frames. It lies apart from the WebSocket, since an idle one keeps nothing.
final class ControlFrames {
  var pings = PingTracker()
  /// Answer that waits for room: only the latest ping is answered (RFC 6455 §5.5.3).
  var unsentPong: Bytes?
  /// Is told of the peer's pings and pongs, until the connection is over. Not weak: who was ever weakly referred to is slower to count for good, by
  /// 110 instructions for each message where a handler holds it.
  var observer: (any ControlObserver)?
  /// For the machine's times, where it keeps any.
  var timer: LoopTimer?
  /// For an end that is known of and lies behind more than is read ahead.
  var foreseenEnd: LoopTimer?
  /// Whether what waits to be sent is above the watermark, as the observer knows.
  var isFull = false
  /// Who waits in `waitUntilClosed`.
  var closeWaiters: [LoopWaiter] = []
  /// Who waits in `send`; nil while nobody does.
  @safe @exclusivity(unchecked) var senders: SendQueue?
  /// Since when there was no room for somebody who asked for it.
  @safe @exclusivity(unchecked) var roomAwaitedSince: Duration?
  /// Looks whether the peer takes anything of what there is no room behind.
  var stall: StallWatch?
  /// What a broadcast has sent while a message was being sent in parts.
  @safe @exclusivity(unchecked) var heldBehindParts: HeldBroadcasts?
}
