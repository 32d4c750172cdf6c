import SluiceConnect
import SluiceHTTP
import SluiceStreams
import SluiceTLS
import SluiceWebSocketProtocol

/// When and how a client that lost its connection tries again.
public struct ReconnectOptions: Sendable {
  /// The longest wait before the first new attempt. The wait is a random time up to that ("full jitter"), so that many clients of a
  /// server that restarts don't come back at once. Default: 1 second.
  public var firstDelay: Duration = .seconds(1)
  /// The longest wait doubles with each attempt, up to this. Default: 30 seconds.
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

  /// One attempt, before it is made.
  public struct Attempt: Sendable {
    /// 0 for the first connection of all, and counting every attempt since.
    public let number: Int
    /// What the attempt before ended with, or the connection; nil at first and after a Close without an error.
    public let lastError: (any Error)?
    public var url: String
    public var headers: Headers
  }

  public init() {}

  /// What will not go away by trying again: a URL, header or certificate that is wrong, and answers of 400-499 other than 408 (Request
  /// Timeout), 425 (Too Early) and 429 (Too Many Requests).
  public static func isFinalByDefault(_ error: any Error) -> Bool {
    switch error {
    case is URLError, is SubprotocolError, is HTTPFieldError, is ExtensionOfferError: true
    case WebSocketConnectError.handshake(.refused(let status, _, _)), ConnectError.proxyRefused(let status, _, _):
      (400...499).contains(status) && ![408, 425, 429].contains(status)
    case WebSocketConnectError.redirect, ConnectError.invalidProxy: true
    case let error as TLSError: error.isAboutCertificates
    case ConnectError.proxyTLS(let error): error.isAboutCertificates
    case ConnectError.socks(.wrongCredentials), ConnectError.socks(.noMethod): true
    default: false
    }
  }
}

extension TLSError {
  fileprivate var isAboutCertificates: Bool {
    switch self {
    case .wrongName, .untrusted, .noCertificate, .invalidOption: true
    default: false
    }
  }
}

/// How long to wait before each attempt: exponential backoff with full jitter.
struct Backoff {
  private let options: ReconnectOptions
  private(set) var failures = 0

  init(_ options: ReconnectOptions) { self.options = options }

  /// A connection has ended.
  mutating func connectionDidEnd(after lifetime: Duration) {
    if lifetime >= options.stableTime { failures = 0 }
  }

  /// - Parameters:
  ///   - wanted: What the server asked for (Retry-After, RFC 9110 §10.2.3).
  ///   - random: 0 to 1.
  /// - Returns: nil if there were attempts enough.
  mutating func nextDelay(wanted: Duration? = nil, random: Double) -> Duration? {
    if let maxAttempts = options.maxAttempts, failures >= maxAttempts { return nil }
    var longest = options.firstDelay
    for _ in 0..<failures where longest < options.maxDelay { longest *= 2 }
    longest = min(longest, options.maxDelay)
    failures += 1
    return max(longest * random, min(wanted ?? .zero, Self.maxWanted))
  }

  /// A server can't send a client away for longer.
  private static let maxWanted = Duration.seconds(300)
}
