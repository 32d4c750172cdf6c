import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS

/// Whether to go through a proxy.
public enum ProxyChoice: Sendable {
  case none
  case through(Proxy)
  /// What `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say, in lower or upper case, as curl reads them.
  case environment
}

/// A proxy: where it is, and what it is told.
///
/// ```swift
/// options.proxy = .through(try Proxy("http://user:password@proxy.example:3128"))
/// ```
public struct Proxy: Sendable {
  enum Kind: String {
    case http
    /// HTTP inside TLS.
    case https
    case socks5
  }
  let kind: Kind
  let host: String
  let port: Int
  /// Never sent to the origin.
  let credentials: ConnectionURL.UserInfo?
  /// Fields that are added to CONNECT.
  public var headers: Headers = [:]
  /// Certificates and trust for a proxy that speaks TLS (`https:`); the origin's don't apply to it. Default: the system's roots.
  public var tls: TLSClientContext?

  /// - Parameter url: `http://`, `https://` or `socks5://` (or `socks5h://`, which is the same: names are resolved by the proxy),
  ///   with user and password if it wants them. The port is 80, 443 and 1080 if none is named.
  /// - Throws: `URLError`.
  public init(_ url: String) throws(URLError) {
    let parsed = try ConnectionURL(url, schemes: ["http", "https", "socks5", "socks5h"])
    kind = parsed.scheme == "socks5h" ? .socks5 : Kind(rawValue: parsed.scheme) ?? .http
    host = parsed.host
    port = parsed.port
    credentials = parsed.userInfo
    // What can't be sent is said here already.
    if kind != .socks5, let credentials { _ = try BasicCredentials(credentials) }
  }
}

extension ProxyChoice {
  /// The proxy for an origin, if there is one.
  func proxy(for origin: Origin, _ environment: @escaping (String) -> String?) throws(ConnectError) -> Proxy? {
    switch self {
    case .none: return nil
    case .through(let proxy): return proxy
    case .environment:
      let variables = ProxyVariables(environment)
      guard let url = variables.proxy(for: origin) else { return nil }
      // As in curl, a proxy without a scheme speaks HTTP.
      do {
        return try Proxy(
          url.wire.divided(at: UInt8(ascii: ":")).map { $0.behind.begins(with: "//") } ?? false ? url : "http://" + url)
      } catch {
        throw .invalidProxy("invalid URL in the environment: \(error)")
      }
    }
  }
}

/// The environment's words about proxies.
struct ProxyVariables {
  private let variable: (String) -> String?

  init(_ variable: @escaping (String) -> String?) { self.variable = variable }

  func proxy(for origin: Origin) -> String? {
    if let exceptions = value("no_proxy"), Self.matches(origin, exceptions) { return nil }
    // In a CGI program, HTTP_PROXY is what a request's "Proxy" field says.
    let own =
      origin.isSecure
      ? value("https_proxy")
      : variable("http_proxy") ?? (variable("REQUEST_METHOD") == nil ? variable("HTTP_PROXY") : nil)
    return [own, value("all_proxy")].lazy.compactMap { $0 }.first { !$0.isEmpty }
  }

  private static func withoutRoot(_ name: WireText) -> WireText { name.ends(with: ".") ? name.dropLast() : name }

  private func value(_ name: String) -> String? { variable(name) ?? variable(name.utf8.map(ASCII.uppercased).text) }

  /// Whether a list has the origin: `*`, a domain with all below it, an address, a network; with a port or without.
  static func matches(_ origin: Origin, _ list: String) -> Bool {
    // The dot of the DNS's root makes no other name.
    let host = withoutRoot(origin.host.wire)
    let address = IPAddress(origin.host)
    return list.wire.split(whereSeparator: { $0 == UInt8(ascii: ",") || ASCII.isBlank($0) }).contains { entry in
      var name = entry
      if name.equals("*") { return true }
      if let address { if let network = IPNetwork(name.text) { return network.contains(address) } }
      // The colons of an IPv6 address stand in brackets where there is a port.
      if let colon = name.lastIndex(of: UInt8(ascii: ":")),
        name.begins(with: "[") ? name[..<colon].ends(with: "]") : name.firstIndex(of: UInt8(ascii: ":")) == colon
      {
        guard name[colon...].dropFirst().decimal == origin.port else { return false }
        name = name[..<colon]
      }
      if name.begins(with: "[") { name = name.dropFirst().prefix { $0 != UInt8(ascii: "]") } }
      if let address { return IPAddress(name.text) == address }
      if name.begins(with: "*.") { name = name.dropFirst() }
      let domain = withoutRoot(name.begins(with: ".") ? name.dropFirst() : name)
      return !domain.isEmpty
        && (host.equalsIgnoringCase(domain.text)
          || host.suffix(domain.count + 1).equalsIgnoringCase("." + domain.text))
    }
  }
}
