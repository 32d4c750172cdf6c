import HTTPTypes
import SluiceStreams

/// Which web pages may connect (RFC 6455 §10.2).
///
/// A browser sends a page's origin with each request, and the cookies of the server that is asked: a server that does not look at
/// the origin can be used from any page with its visitor's rights. Requests without an origin come from other programs and
/// are not held back by it.
///
/// ```swift
/// options.origins = .only("https://example.com", "https://*.example.com")
/// ```
public struct OriginPolicy: Sendable, Hashable {
  private enum Rule: Hashable {
    case any
    case same
    case only([String])
  }
  private let rule: Rule

  /// Pages of the host and port that the request's Host names. The default.
  public static let sameOrigin = OriginPolicy(rule: .same)

  /// All pages.
  public static let any = OriginPolicy(rule: .any)

  /// Pages of these origins, `SCHEME://HOST[:PORT]`, and of the server's own if it is listed. A host that begins with `*.` stands
  /// for all hosts below it, but not for itself. Letters' case does not matter; a default port may be left out.
  public static func only(_ origins: String...) -> OriginPolicy { only(origins) }

  public static func only(_ origins: [String]) -> OriginPolicy { OriginPolicy(rule: .only(origins)) }

  /// Whether a page's request is allowed. A request without an origin does not come from a page, and is allowed.
  public func allows(_ request: HTTPRequest) -> Bool {
    allows(request.headerFields[values: .origin], host: request.authority ?? "")
  }

  /// The fields that let a page read the answer (CORS, the Fetch standard §3.2); those of the server's own origin need none.
  package func permission(for request: HTTPRequest) -> Headers {
    switch rule {
    case .any: return ["Access-Control-Allow-Origin": "*"]
    case .same: return [:]
    case .only:
      guard let origin = request.headerFields[.origin], allows(request) else { return ["Vary": "Origin"] }
      return ["Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true", "Vary": "Origin"]
    }
  }

  /// Whether `only` could ever let a page in by it: `SCHEME://HOST[:PORT]`, without a path.
  public static func isOrigin(_ text: String) -> Bool { Origin(text) != nil }

  /// - Parameter host: The request's Host.
  package func allows(_ origins: [String], host: String) -> Bool {
    if case .any = rule { return true }
    if origins.isEmpty { return true }
    // "null", what is no origin, or two of them: from a page that nobody vouches for.
    guard origins.count == 1, let origin = Origin(origins[0]) else { return false }
    switch rule {
    case .any: return true
    case .same: return Origin("\(origin.scheme)://\(host)") == origin
    case .only(let patterns): return patterns.contains { Self.matches(origin, $0) }
    }
  }

  private static func matches(_ origin: Origin, _ pattern: String) -> Bool {
    guard let pattern = Origin(pattern) else { return false }
    guard pattern.host.utf8.begins(with: "*.") else { return pattern == origin }
    let domain = pattern.host.utf8.dropFirst().text
    return pattern.scheme == origin.scheme && pattern.port == origin.port
      && origin.host.utf8.ends(with: domain) && origin.host.utf8.count > domain.utf8.count
  }
}

/// An origin as a browser writes it (RFC 6454 §6.2): ASCII, in lower case and with its port.
private struct Origin: Equatable {
  let scheme: String
  let host: String
  let port: String

  init?(_ text: String) {
    let text = text.lowercasedASCII.wire
    guard text.allSatisfy({ $0 > 0x20 && $0 < 0x7F && !"?#@\\".utf8.contains($0) }),
      let (scheme, behind) = text.divided(at: UInt8(ascii: ":")), behind.begins(with: "//")
    else { return nil }
    let authority = behind.dropFirst(2)
    let name: WireText
    if authority.begins(with: "[") {
      // RFC 3986 §3.2.2: the colons of an IPv6 address stand in brackets.
      guard let bracket = authority.firstIndex(of: UInt8(ascii: "]")) else { return nil }
      name = authority[...bracket]
    } else {
      name = authority.prefix { $0 != UInt8(ascii: ":") }
    }
    guard !scheme.isEmpty, !name.isEmpty, !authority.contains(UInt8(ascii: "/")) else { return nil }
    (self.scheme, host) = (scheme.text, name.text)
    let rest = authority[name.endIndex...]
    if rest.isEmpty {
      port = ["https": "443", "wss": "443", "http": "80", "ws": "80"][self.scheme] ?? ""
    } else {
      let digits = rest.dropFirst()
      guard rest.begins(with: ":"), (1...5).contains(digits.count), digits.allSatisfy(ASCII.isDigit) else { return nil }
      port = digits.text
    }
  }
}
