import HTTPTypes

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

  /// Whether a page's request is allowed; one without an origin, which is no page's, is.
  public func allows(_ request: HTTPRequest) -> Bool {
    allows(request.headerFields[values: .origin], host: request.authority ?? "")
  }

  /// Whether `only` could ever let a page in by it: `SCHEME://HOST[:PORT]`, without a path.
  public static func isOrigin(_ text: String) -> Bool { Origin(text) != nil }

  /// - Parameter host: The request's Host.
  func allows(_ origins: [String], host: String) -> Bool {
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
    guard pattern.host.hasPrefix("*.") else { return pattern == origin }
    return pattern.scheme == origin.scheme && pattern.port == origin.port
      && origin.host.hasSuffix(pattern.host.dropFirst()) && origin.host.count > pattern.host.count - 1
  }
}

/// An origin as a browser writes it (RFC 6454 §6.2), in lower case and with its port.
private struct Origin: Equatable {
  let scheme: String
  let host: String
  let port: String

  init?(_ text: String) {
    let text = text.lowercased()
    guard let colon = text.firstIndex(of: ":"), text[colon...].hasPrefix("://") else { return nil }
    scheme = String(text[..<colon])
    let authority = text[colon...].dropFirst(3)
    // RFC 3986 §3.2.2: the colons of an IPv6 address stand in brackets.
    let hostEnd =
      authority.hasPrefix("[")
      ? authority.firstIndex(of: "]").map(authority.index(after:)) : authority.firstIndex(of: ":")
    if authority.hasPrefix("[") && hostEnd == nil { return nil }
    let (name, rest) = (authority[..<(hostEnd ?? authority.endIndex)], authority[(hostEnd ?? authority.endIndex)...])
    host = String(name)
    guard !scheme.isEmpty, !host.isEmpty, !host.utf8.contains(where: { "/?#@\\ \t".utf8.contains($0) }) else {
      return nil
    }
    if rest.isEmpty {
      port = scheme == "https" || scheme == "wss" ? "443" : scheme == "http" || scheme == "ws" ? "80" : ""
    } else {
      port = String(rest.dropFirst())
      guard rest.hasPrefix(":"), (1...5).contains(port.count), port.utf8.allSatisfy({ (0x30...0x39).contains($0) })
      else { return nil }
    }
  }
}
