import SluiceEventSource
import SluiceHTTP

/// How a client reads event streams. The members of `connect` are members of this too.
@dynamicMemberLookup
public struct EventSourceClientOptions: Sendable {
  /// Fields that are added to each request. The origin sees them; a proxy does if the URL is `http:`, as it is given such requests themselves.
  /// An `Accept` among them takes the place of `text/event-stream`, a `Host` that of the URL's until a redirect leads to another origin.
  public var headers: Headers = [:]
  /// The last event that was seen earlier, to be named at the first connection already. An id of more than 4 KiB is not named. Default: none.
  public var lastEventID: String?
  /// Whether to come back when the stream ends or is lost. Otherwise `read` gives nil at its end, and throws when it is lost. Default: nil,
  /// as the standard has it for GET, and not after another method, which might do twice what was asked for once.
  public var reconnects: Bool?
  /// How long to wait before that, until the server says otherwise; 100 ms at the least. With each failure in a row (a connection that gave no
  /// event and did not last for 10 seconds) it doubles; up to half as much again is added at random. Default: 3 seconds.
  public var retry: Duration = .seconds(3)
  /// 0 to 1, anew for each wait: which part of the half is added.
  package var jitter: @Sendable () -> Double = { Double.random(in: 0...1) }
  /// The longest wait, also where the server asks for more with `Retry-After`. Default: 60 seconds, or what the stream's own `retry` says, if that is more.
  public var maxRetry: Duration = .seconds(60)
  /// Is told before each wait how long it is and what it follows: a lost connection, or an attempt that failed; nil after a stream that ended
  /// as it should.
  public var willWait: @Sendable (Duration, (any Error)?) -> Void = { _, _ in }
  /// The way to the server. Its `timeout` is for each connection, from the name to the head of the answer, redirects included.
  public var connect = ConnectOptions()
  /// How long nothing may come, not even a comment, before the connection counts as lost. Default: nil, for ever.
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
