import SluiceEventSource
import SluiceHTTP

/// How a client reads event streams. The members of `connect` are members of this too.
@dynamicMemberLookup
public struct EventSourceClientOptions: Sendable {
  /// Fields that are added to each request. The origin sees them; a proxy does if the URL is `http:`, as it is given such requests themselves.
  /// An `Accept` among them takes the place of `text/event-stream`, a `Host` that of the URL's until a redirect leads to another origin.
  public var headers: Headers = [:]
  /// The last event that was seen before, named in the first request already. An id of more than 4 KiB is not sent. Default: none.
  public var lastEventID: String?
  /// Whether to reconnect when the stream ends or is lost. Otherwise `read` gives nil at its end, and throws when it is lost. Default: nil: yes for
  /// GET, as in the standard, and no for other methods, whose request might have effects twice.
  public var reconnects: Bool?
  /// How long to wait before that, until the server says otherwise; 100 ms at the least. With each failure in a row (a connection that gave no
  /// event and did not last for 10 seconds) it doubles; up to half as much again is added at random. Default: 3 seconds.
  public var retry: Duration = .seconds(3)
  /// 0 to 1, anew for each wait: which part of the half is added.
  package var jitter: @Sendable () -> Double = { Double.random(in: 0...1) }
  /// The longest delay, also where the server asks for more with `Retry-After`. Default: 60 seconds, or the stream's own `retry` if that is longer.
  public var maxRetry: Duration = .seconds(60)
  /// Called before each delay, with its length and the reason: a lost connection, or a failed attempt; nil after a stream that ended normally.
  public var willWait: @Sendable (Duration, (any Error)?) -> Void = { _, _ in }
  /// The way to the server. Its `timeout` is for each connection, from the name to the head of the answer, redirects included.
  public var connect = ConnectOptions()
  /// How long nothing may arrive, not even a comment, before the connection counts as lost. Default: nil, no limit.
  public var silenceTimeout: Duration?
  /// Redirects that are followed at each connection, never from `https:` to `http:`; Authorization, Cookie and Proxy-Authorization go to the
  /// first host only. Default: 5.
  public var maxRedirects = 5
  /// Limits of events. Default: 16 MiB.
  public var limits = EventStreamLimits()
  /// Limits of the response head. Default: 16 KiB, 100 fields.
  public var headLimits = HeadLimits()

  public init() {}

  public subscript<Value>(dynamicMember member: WritableKeyPath<ConnectOptions, Value>) -> Value {
    get { connect[keyPath: member] }
    set { connect[keyPath: member] = newValue }
  }
}
