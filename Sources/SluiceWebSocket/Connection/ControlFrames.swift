import SluiceStreams

/// Looks at control frames, which are dealt with already. On the connection's loop.
protocol ControlObserver: AnyObject {
  func didReceivePing(_ payload: Bytes)
  func didReceivePong(_ payload: Bytes)
}

/// What one connection has to keep of its control frames. It lies apart from the WebSocket, since an idle one keeps nothing.
final class ControlFrames {
  var pings = PingTracker()
  /// Answer that waits for room: only the latest ping is answered (RFC 6455 §5.5.3).
  var unsentPong: Bytes?
  /// Is told of the peer's pings and pongs.
  weak var observer: (any ControlObserver)?
  /// The peer's Close.
  var received: ReceivedClose?
  /// What sends pings and looks for pongs, where that is asked for.
  var watch: ConnectionWatch?
}
