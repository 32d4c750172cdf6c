import SluiceStreams

/// Looks at control frames, which are dealt with already. On the connection's loop.
protocol ControlObserver: AnyObject {
  func didReceivePing(_ payload: Bytes)
  func didReceivePong(_ payload: Bytes)
}

/// What one connection has to keep of its pings and pongs. It lies apart from the WebSocket, since an idle one keeps nothing.
final class ControlFrames {
  var pings = PingTracker()
  /// Answer that waits for room: only the latest ping is answered (RFC 6455 §5.5.3).
  var unsentPong: Bytes?
  /// Is told of the peer's pings and pongs.
  weak var observer: (any ControlObserver)?
}
