/// Is told what an HTTP server does, to count it: `HTTPServerMetrics`, with the package trait `Metrics`, is one. Called on the connections' loops, it must
/// not block. What has become a WebSocket or an event stream tells its own observer, of its own options.
public protocol HTTPServerObserver: AnyObject, Sendable {
  /// A connection was accepted.
  func didOpen()
  /// A request was answered.
  /// - Parameter byteCount: Of the response's body.
  func didAnswer(status: Int, byteCount: Int)
  /// A connection was refused, or a request that none of the routes is for or that is beyond a limit.
  func didRefuse(status: Int)
  /// A connection has ended, whatever it became.
  func didEnd()
}
