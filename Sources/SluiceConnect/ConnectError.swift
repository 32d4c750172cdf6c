import HTTPTypes
import SluiceHTTP
import SluiceStreams
import SluiceTLS

/// Why an origin was not reached. A failure of the network itself is an `IOError`, one of the origin's TLS a `TLSError`.
public enum ConnectError: Error, Hashable, Sendable {
  /// A step was not done in its time, or all of them in theirs.
  case timeout(ConnectStep, Duration)
  /// The proxy did not open the tunnel: its answer, with the first bytes of its body.
  case proxyRefused(status: Int, headers: HTTPFields, bodyStart: Bytes)
  /// The proxy's answer is not HTTP, or beyond a limit.
  case proxyMalformed(HTTPHeadError)
  /// The proxy sent bytes into the tunnel that can't be the origin's: it waits for us.
  case proxyEarlyBytes(Int)
  /// The proxy ended the connection before it had answered.
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
    case .timeout(let step, let time): "\(step) was not done within \(time)"
    case .proxyRefused(let status, _, _): "the proxy answered CONNECT with status \(status)"
    case .proxyMalformed(let error): "the proxy's answer is malformed: \(error)"
    case .proxyEarlyBytes(let count):
      "the proxy sent \(count) bytes behind its answer, before the origin was asked anything"
    case .proxyEndedEarly: "the proxy ended the connection before it had answered"
    case .socks(let error): "the SOCKS5 proxy: \(error)"
    case .proxyTLS(let error): "TLS to the proxy: \(error)"
    case .invalidProxy(let reason): "the proxy can't be used: \(reason)"
    }
  }
}
