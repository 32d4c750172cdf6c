import SluiceStreams

/// Limits and times of one connection.
public struct WebSocketOptions: Sendable {
  /// Bytes of a received message, 1 or more. A longer one closes with 1009. Default: 64 MiB - 1, as faye-websocket's.
  /// Costs up to twice as much memory while a message that spans reads is put together. Does not apply to `fragments`.
  public var maxMessageSize = (64 << 20) - 1
  /// Frames of one received message, 1 or more. More close with 1008. Default: 65,536.
  public var maxFragments = 65_536
  /// How long the peer may take to answer our Close, and to end the connection after it. Default: 10 seconds.
  public var closeTimeout: Duration = .seconds(10)
  /// Bytes that may wait to be written before `send` waits. Default: 64 KiB.
  public var writeHighWatermark = 64 << 10

  public init() {}
}
