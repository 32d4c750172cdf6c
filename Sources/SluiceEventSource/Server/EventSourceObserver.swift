/// Is told what a server's event streams do, to count it: `EventSourceMetrics`, with the package trait `Metrics`, is one. Called on the streams' loops, it must
/// not block.
public protocol EventSourceObserver: AnyObject, Sendable {
  /// A stream has begun.
  func didOpen()
  /// A request was refused, with this status.
  func didRefuse(status: Int)
  /// An event was given to a stream.
  /// - Parameter byteCount: Of its text, before it is compressed.
  func didSend(byteCount: Int)
  /// A broadcast passed a stream by: it had no room.
  func didMiss()
  /// More waits to be sent than the high watermark: producers wait from now on.
  func didReachHighWatermark()
  /// A stream has ended, by either side.
  func didEnd()
}
