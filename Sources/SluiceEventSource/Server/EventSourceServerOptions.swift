import HTTPTypes
import SluiceHTTP

/// How a server gives event streams; what they stand on has `HTTPServerOptions`.
public struct EventSourceServerOptions: Sendable {
  /// Fields that are added to the response. Beside the stream's own, it has `Date`, and `X-Accel-Buffering: no`, without which nginx keeps events back; both
  /// may be said otherwise here.
  public var headers: Headers = [:]
  /// What clients are told of how long to wait before they come back. Default: 5 seconds; nil says nothing.
  public var retry: Duration? = .seconds(5)
  /// How often a comment shows that the connection lives, so that proxies don't cut it. Default: 10 seconds; nil sends none.
  public var ping: Duration? = .seconds(10)
  /// Whose pages may read the stream, and why it was refused, in a browser (CORS, the Fetch standard §3.2): those of an origin that is listed may send
  /// credentials too. Their preflight requests are answered. Default: only pages of the server's own origin, which need no permission.
  public var origins = OriginPolicy.sameOrigin
  /// Looks at a request before it is accepted: asks who it is. What it returns is added to the response; what it throws refuses it: a `RequestRejection`
  /// with its status, anything else with 500. It runs on the connection's loop, and its task is cancelled when the client leaves. Default: nil, all
  /// are accepted.
  public var onRequest: (@Sendable (HTTPRequest) async throws -> Headers)?
  /// Whether a handler's task is cancelled when its stream has ended without it: when the client has left, or the server has stopped. Otherwise the next
  /// `send` throws, and what waits for something else goes on. Default: yes.
  public var cancelsHandler = true
  /// How long a client may take nothing of the last events of a stream that ends, before it is cut. Default: 10 seconds.
  public var closeTimeout: Duration = .seconds(10)
  /// Compresses streams (gzip) to clients that accept it, each event so that it can be read at once. Shows by the length of what is sent how alike its parts
  /// are: not for secrets beside what others choose. Default: no.
  ///
  /// What a connection is sent by itself is compressed with what it was sent before, which costs 32 KiB for each that is. What a broadcast gives is compressed
  /// once for all, each event by itself: that gains little with events of less than some hundred bytes.
  public var compresses = false
  /// How long a client may take nothing of what waits to be written before it is cut; one that takes a little has no limit. Noticed up to half as
  /// much later. Default: 60 seconds; nil waits for ever.
  public var stallTimeout: Duration? = .seconds(60)
  /// Bytes that may wait to be written before `send` waits. Default: 64 KiB.
  public var writeHighWatermark = 64 << 10
  /// Is told what the streams do. Default: nobody.
  public var observer: (any EventSourceObserver)?

  public init() {}
}
