import SluiceStreams

/// Why a text is not a URL to connect to.
public struct URLError: Error, Hashable, Sendable, CustomStringConvertible {
  public let description: String

  init(_ description: String) { self.description = description }
}

extension ConnectionURL: CustomStringConvertible {
  /// The whole URL without user and password.
  public var description: String { "\(scheme)://\(authority)\(target)" }
}

/// The parts of a URL that a connection needs (RFC 3986, and RFC 6455 §3 for `ws`).
public struct ConnectionURL: Hashable, Sendable {
  /// In lower case: "ws", "wss", "http", "https".
  public let scheme: String
  /// User and password as they stand in the URL; nil if there are none.
  public private(set) var userInfo: UserInfo?
  /// A name or an address, an IPv6 one without its brackets, percent-encoded characters decoded.
  public let host: String
  /// The port of the URL, or the scheme's own.
  public let port: Int
  /// Path and query, "/" at the least: what a request asks for.
  public let target: String

  /// - Parameter schemes: The schemes to accept.
  /// - Throws: `URLError`, which says what is wrong and what is allowed.
  public init(_ text: String, schemes: [String] = ["ws", "wss"], allowsPortZero: Bool = false) throws(URLError) {
    let parts = URIReference(text)
    let hostPort = parts.authority.map(Self.withoutUserInfo)
    // Of a host something else is to be written than of the rest.
    if let hostPort, !hostPort.allSatisfy({ $0 < 0x80 }) {
      _ = try Self.hostAndPort(hostPort, default: 0, lowest: 0)
    }
    guard text.utf8.allSatisfy(HTTPSyntax.isTargetCharacter) else {
      throw URLError("the URL contains a space, a control character or a non-ASCII character; percent-encode it")
    }
    guard let scheme = parts.scheme else { throw URLError("'\(text)' has no scheme (expected \(Self.list(schemes)))") }
    guard schemes.contains(scheme) else {
      throw URLError("unsupported scheme '\(scheme)' (expected \(Self.list(schemes)))")
    }
    guard let authority = parts.authority, let hostPort else { throw URLError("'//' is missing after '\(scheme):'") }
    guard parts.fragment == nil else { throw URLError("the URL must not have a fragment ('#…')") }
    self.scheme = scheme
    target = (parts.path.isEmpty ? "/" : parts.path) + (parts.query.map { "?" + $0 } ?? "")
    userInfo =
      hostPort.startIndex == authority.startIndex
      ? nil : try UserInfo(authority.wire[..<hostPort.startIndex].dropLast())
    (host, port) = try Self.hostAndPort(
      hostPort, default: Self.defaultPort(scheme), lowest: allowsPortZero ? 0 : 1)
  }

  private static func withoutUserInfo(_ authority: String) -> WireText {
    let text = authority.wire
    return text.lastIndex(of: UInt8(ascii: "@")).map { text[$0...].dropFirst() } ?? text
  }

  private static func defaultPort(_ scheme: String) -> Int {
    switch scheme {
    case "wss", "https": 443
    case "socks5", "socks5h": 1080
    case "redis", "rediss": 6379
    case "nats", "tls+nats": 4222
    default: 80
    }
  }

  private static func hostAndPort(
    _ text: WireText, default defaultPort: Int, lowest: Int
  ) throws(URLError) -> (String, Int) {
    let host: String
    let rest: WireText
    if text.begins(with: "[") {
      guard let (address, behind) = text.dropFirst().divided(at: UInt8(ascii: "]")) else {
        throw URLError("the ']' after the IPv6 address is missing")
      }
      guard !address.isEmpty, address.allSatisfy(HTTPSyntax.isIPv6Character) else {
        throw URLError("'\(address.text)' is not an IPv6 address")
      }
      (host, rest) = (address.text, behind)
    } else {
      let name = text.prefix { $0 != UInt8(ascii: ":") }
      host = try HostName.decode(name)
      rest = text[name.endIndex...]
    }
    // RFC 3986 §3.2.3: a port without digits is none.
    if rest.isEmpty || rest.equals(":") { return (host, defaultPort) }
    let digits = rest.dropFirst()
    guard rest.begins(with: ":"), let port = digits.decimal, (lowest...65535).contains(port) else {
      throw URLError("invalid port '\(digits.text)' (expected \(lowest)–65535)")
    }
    return (host, port)
  }

  private static func list(_ schemes: [String]) -> String {
    schemes.map { $0 + "://" }.joined(separator: " or ")
  }

  /// The value of a Host field: without the port if it is the scheme's own.
  public var authority: String {
    port == Self.defaultPort(scheme) ? hostInURL : "\(hostInURL):\(port)"
  }

  /// The URL with another port, always written out, and without user and password.
  package func description(withPort port: Int) -> String {
    "\(scheme)://\(hostInURL):\(port)\(target)"
  }

  private var hostInURL: String { host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]" : host }

  /// The same with what another URL says of user and password.
  package func with(_ userInfo: UserInfo?) -> ConnectionURL {
    var url = self
    url.userInfo = userInfo
    return url
  }
}

extension ConnectionURL {
  /// User and password of a URL (RFC 3986 §3.2.1), decoded.
  public struct UserInfo: Hashable, Sendable {
    public let user: String
    /// Empty if there is none.
    public let password: String

    /// - Returns: nil if there is nothing.
    init?(_ text: WireText) throws(URLError) {
      if text.isEmpty { return nil }
      // A colon that is encoded is part of the user's name.
      let user = text.prefix { $0 != UInt8(ascii: ":") }
      self.user = try Self.decode(user)
      password = try Self.decode(text[user.endIndex...].dropFirst())
    }

    private static func decode(_ text: WireText) throws(URLError) -> String {
      guard let bytes = PercentEncoding.decode(text) else {
        throw URLError("invalid percent-encoding in the user name or password")
      }
      return bytes.text
    }
  }
}
