import HTTPTypes
import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS

/// Why an origin was not reached. A failure of the network itself is an `IOError`, one of the origin's TLS a `TLSError`.
public enum ConnectError: Error, Hashable, Sendable {
  /// A step was not done in its time, or all of them in theirs.
  case timeout(ConnectStep, Duration)
  /// The connection was lost while a step was under way.
  case lost(ConnectStep, IOError)
  /// A host or a port that can't be connected to.
  case invalidOrigin(String)
  /// The proxy refused the tunnel, or requires other credentials: its response, with the first bytes of the body.
  case proxyRefused(status: Int, headers: HTTPFields, bodyStart: Bytes)
  /// The proxy's response is not HTTP, or exceeds a limit.
  case proxyMalformed(HTTPHeadError)
  /// The proxy closed the connection without responding.
  case proxyEndedEarly
  /// SOCKS5 (RFC 1928): what went wrong.
  case socks(SOCKSError)
  /// TLS to the proxy failed.
  case proxyTLS(TLSError)
  /// The proxy's URL can't be used.
  case invalidProxy(String)
}

extension ConnectError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .timeout(let step, let time): "\(step.noun) took longer than \(time)"
    case .lost(let step, let error): "the connection was lost during \(step.noun): \(error)"
    case .invalidOrigin(let reason): reason
    case .proxyRefused(let status, _, _): "the proxy responded with status \(status)"
    case .proxyMalformed(let error): "malformed response from the proxy: \(error)"
    case .proxyEndedEarly: "the proxy closed the connection without responding"
    case .socks(let error): "SOCKS5 proxy: \(error)"
    case .proxyTLS(let error): "TLS to the proxy: \(error)"
    case .invalidProxy(let reason): "invalid proxy: \(reason)"
    }
  }
}

extension ConnectError: RetryAdvising {
  package var isFinal: Bool {
    switch self {
    case .proxyRefused(let status, _, _): ReconnectOptions.isFinal(status: status)
    case .invalidOrigin, .invalidProxy, .socks(.wrongCredentials), .socks(.noMethod): true
    case .proxyTLS(let error): ReconnectOptions.isFinalByDefault(error)
    case .timeout, .lost, .proxyMalformed, .proxyEndedEarly, .socks: false
    }
  }

  package var retryAfter: Duration? {
    if case .proxyRefused(_, let headers, _) = self { headers.retryAfter() } else { nil }
  }

  /// What an error of the network means while a step is under way: the connection is lost, and not an established one.
  package static func during(_ step: ConnectStep, _ error: any Error) -> any Error {
    (error as? IOError).map { ConnectError.lost(step, $0) } ?? error
  }
}
