import HTTPTypes
import SluiceHTTP

/// How a server gives event streams; what they stand on has `HTTPServerOptions`.
public struct EventSourceServerOptions: Sendable {
  /// Fields that are added to the response.
  public var headers: Headers = [:]
  /// What clients are told of how long to wait before they come back. Default: 5 seconds; nil says nothing.
  public var retry: Duration? = .seconds(5)
  /// How often a comment shows that the connection lives, so that proxies don't cut it. Default: 10 seconds; nil sends none.
  public var ping: Duration? = .seconds(10)
  /// The origin whose pages may read the stream (`Access-Control-Allow-Origin`): `https://example.com`, or `*` for all. Default:
  /// nil, only pages of the server's own.
  public var allowedOrigin: String?
  /// Looks at a request before it is accepted. What it returns is added to the response; what it throws refuses it: a `RequestRejection`
  /// with its status, anything else with 500. Called on the connection's loop: it must not block.
  public var onRequest: @Sendable (HTTPRequest) throws -> Headers = { _ in [:] }
  /// Where `accept` reads the request itself: time for its head. Default: 10 seconds.
  public var requestTimeout: Duration = .seconds(10)
  /// How long a client may take nothing of the last events of a stream that ends, before it is cut. Default: 10 seconds.
  public var closeTimeout: Duration = .seconds(10)
  /// The same: limits of the head. Default: 16 KiB, 100 fields.
  public var headLimits = HeadLimits()
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
