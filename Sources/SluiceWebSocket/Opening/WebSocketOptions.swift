import SluiceStreams
import SluiceWebSocketProtocol

/// Limits and times of one connection.
public struct WebSocketOptions: Sendable {
  /// Bytes of a received message, 1 or more. A longer one closes with 1009. Default: 64 MiB - 1, as faye-websocket's.
  /// Costs up to twice as much memory while a message that spans reads is put together. Of a compressed message it is the
  /// inflated size that counts, while it is inflated. Does not apply to `parts`.
  public var maxMessageSize = (64 << 20) - 1
  /// Frames of one received message, 1 or more, empty ones too. More close with 1008. Default: 131,072, a message of 64 MiB in
  /// frames of 512 bytes.
  public var maxFragments = MessageAssembler.defaultMaxFragments
  /// After our Close, how long the peer may be silent, that is, acknowledge nothing and send nothing, until its own Close and until it ends the
  /// connection. A slow peer that makes progress has as long as it needs. For half of it the peer's Close, its
  /// violation of the protocol, or its end, waits for a reader that reads nothing more, so that what came before can be answered. Default: 10 seconds.
  public var closeTimeout: Duration = .seconds(10)
  /// Bytes that may wait to be written before `send` waits, 1 or more; less counts as 1. As many are read ahead while nobody reads, counting
  /// 160 bytes more for each message, which is what one costs beside its payload. Default: 64 KiB.
  public var writeHighWatermark = 64 << 10 {
    didSet { writeHighWatermark = max(writeHighWatermark, 1) }
  }
  /// How long the peer may read nothing while a writer waits for room, before it is disconnected. A slow peer that reads something is not
  /// disconnected; one that sends, or answers pings, without reading is. For as long, and for the default where this is nil, an end of the peer that lies
  /// behind more than is read ahead waits for our reader. nil: no limit. Default: 60 seconds.
  public var stallTimeout: Duration? = defaultStallTimeout
  static let defaultStallTimeout = Duration.seconds(60)

  /// Pings a silent peer, and disconnects one that does not respond. Default: nil, no pings.
  public var keepalive: Keepalive?
  /// Called with what the connection does. Default: nil.
  public var observer: (any WebSocketObserver)?
  /// How long there may be no message in either direction before the connection is closed with 1001. Pings and pongs don't count. Default: nil, no
  /// limit.
  public var idleTimeout: Duration?

  /// When to ping, and how long to wait for a sign of life. Costs a timer for each connection, about 150 bytes.
  public struct Keepalive: Sendable, Hashable {
    /// A ping is sent when nothing came for this long. Default: 20 seconds.
    public var interval: Duration
    /// How long after that anything may take to come, once the ping has left: data and other pings are as good as the pong. The
    /// time rests while this side does not read, because a reader or the sink of a pipe is slow. Default: 20 seconds.
    public var timeout: Duration

    public init(interval: Duration = .seconds(20), timeout: Duration = .seconds(20)) {
      self.interval = interval
      self.timeout = timeout
    }
  }

  public init() {}
}
