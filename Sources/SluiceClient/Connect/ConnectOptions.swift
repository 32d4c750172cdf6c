import SluiceHTTP
import SluiceIO
import SluiceTLS

/// How a connection to an origin is made.
public struct ConnectOptions: Sendable {
  /// Time limit for all of it. Default: 10 seconds.
  public var timeout: Duration = .seconds(10)
  /// What an error calls that time, where it is what is left of a caller's own.
  package var wholeTimeout: Duration?
  /// Time limits for single steps, within that for all. Default: none.
  public var stepTimeouts: [ConnectStep: Duration] = [:]
  /// Options of the socket: its own address, the family of the peer's.
  public var tcp = TCP.Options()
  /// A Unix socket (`@NAME` for an abstract one) to connect to instead of the origin's host and port, which are still what is asked
  /// for and verified.
  public var unixSocket: String?
  /// What is connected to instead of a host and its port (`HOST:PORT`, in lower case), which are still what is asked for and verified.
  package var addresses: [String: String] = [:]
  /// Certificates, trust and sessions of a secure origin. Default: nil, the system's roots.
  public var tls: TLSClientContext?
  /// The proxy to go through, except to a Unix socket. Default: none.
  public var proxy = ProxyChoice.none

  public init() {}

  /// What a step may take of the time that is left for all, and what an error calls that.
  func limit(of step: ConnectStep, within left: Duration) -> (time: Duration, named: Duration) {
    if let own = stepTimeouts[step], own <= left { return (own, own) }
    return (left, wholeTimeout ?? timeout)
  }
}

/// A step of connecting to an origin.
public enum ConnectStep: String, Sendable, Hashable, CustomStringConvertible {
  /// Name resolution and the connection itself.
  case connect
  /// TLS to the proxy.
  case proxyTLS = "TLS to the proxy"
  /// The proxy's own handshake.
  case proxy
  /// TLS to the origin.
  case tls = "TLS"
  /// The opening handshake of the protocol above: from the request to the head of the answer, for each redirect anew.
  case handshake

  public var description: String { rawValue }

  /// As it stands in a sentence.
  var noun: String {
    switch self {
    case .connect: "the connection"
    case .proxyTLS: "the TLS handshake with the proxy"
    case .proxy: "the proxy's handshake"
    case .tls: "the TLS handshake"
    case .handshake: "the handshake"
    }
  }
}

/// What is to be reached.
public struct Origin: Sendable, Hashable {
  /// A name or an address, an IPv6 one without brackets.
  public var host: String
  /// 1 to 65535.
  public var port: Int
  /// Whether it speaks TLS.
  public var isSecure: Bool

  public init(host: String, port: Int, isSecure: Bool) {
    self.host = host
    self.port = port
    self.isSecure = isSecure
  }

  /// "example.com:443", "[::1]:80": what a proxy is asked for.
  var authority: String { (host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]" : host) + ":\(port)" }

  /// - Throws: `ConnectError.invalidOrigin` for what no system and no proxy would connect to, or each to something else.
  func check() throws(ConnectError) {
    do { try HostName.check(host) } catch { throw .invalidOrigin(error.description) }
    guard (1...65535).contains(port) else { throw .invalidOrigin("invalid port \(port) (expected 1–65535)") }
  }
}
