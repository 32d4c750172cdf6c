import SluiceHTTP
import SluiceTLS

/// When and how a client that lost its connection tries again.
public struct ReconnectOptions: Sendable {
  /// The longest wait before the first new attempt. The wait is a random time up to that ("full jitter"), so that many clients of a
  /// server that restarts don't come back at once. Default: 1 second.
  public var firstDelay: Duration = .seconds(1)
  /// The longest wait doubles with each attempt, up to this. Nor can a server ask for a longer one (Retry-After). Default: 30 seconds.
  public var maxDelay: Duration = .seconds(30)
  /// A connection that lasted so long was a success: the next wait is a first one. Default: 10 seconds.
  public var stableTime: Duration = .seconds(10)
  /// Attempts without success after which the last failure is final. Default: nil, no end.
  public var maxAttempts: Int?
  /// Whether a failure is final. Default: `isFinalByDefault`.
  public var isFinal: @Sendable (any Error) -> Bool = { ReconnectOptions.isFinalByDefault($0) }
  /// Is asked before each attempt, the first one too, and may change where it goes and what it says: a query or a header that names the
  /// last message that was seen.
  public var prepare: @Sendable (inout Attempt) async -> Void = { _ in }
  /// Is told before each wait how long it is and what it follows: a lost connection, or an attempt that failed.
  public var willWait: @Sendable (Duration, any Error) -> Void = { _, _ in }
  /// Is told of each connection that was made.
  public var didConnect: @Sendable (Attempt) -> Void = { _ in }
  /// 0 to 1, anew for each wait: which part of the longest it is.
  package var jitter: @Sendable () -> Double = { Double.random(in: 0...1) }

  /// One attempt, before it is made.
  public struct Attempt: Sendable {
    /// 0 for the first connection of all, and counting every attempt since.
    public let number: Int
    /// What the attempt before ended with, or the connection; nil at first.
    public let lastError: (any Error)?
    /// Where a WebSocket goes; of another connection it is for information only.
    public var url: String
    /// Fields of a WebSocket's request; other connections have none.
    public var headers: Headers
  }

  public init() {}

  /// What will not go away by trying again: a URL, header or certificate that is wrong; answers of 400-499 other than 408 (Request
  /// Timeout), 425 (Too Early) and 429 (Too Many Requests); a peer that breaks the protocol or says that we do, and a limit that was
  /// exceeded on either side.
  public static func isFinalByDefault(_ error: any Error) -> Bool {
    switch error {
    case is URLError, is HTTPFieldError: true
    case let error as TLSError: error.isAboutCertificates
    case let error as any RetryAdvising: error.isFinal
    default: false
    }
  }

  /// Whether a refusal with this status will be one again.
  package static func isFinal(status: Int) -> Bool { (400...499).contains(status) && !isPassing(status: status) }

  /// Whether a server that answers with this status may soon answer with another: it is overloaded, broken, or was asked too early.
  package static func isPassing(status: Int) -> Bool {
    [408, 425, 429].contains(status) || (500...599).contains(status)
  }
}

/// An error of a protocol that knows what it means for another attempt.
package protocol RetryAdvising: Error {
  /// Whether it will not go away by trying again.
  var isFinal: Bool { get }
  /// The time that the server asked for (Retry-After, RFC 9110 §10.2.3).
  var retryAfter: Duration? { get }
}

extension RetryAdvising {
  package var retryAfter: Duration? { nil }
}

/// The peer ended a connection without saying that the stream is complete.
public struct ConnectionEnded: Error, Hashable, Sendable, CustomStringConvertible {
  public init() {}

  public var description: String { "the peer ended the connection" }
}

extension TLSError {
  fileprivate var isAboutCertificates: Bool {
    switch self {
    case .wrongName, .untrusted, .noCertificate, .invalidOption: true
    default: false
    }
  }
}
