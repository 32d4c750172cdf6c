import HTTPTypes
import SluiceHTTP

/// Where a server sends a client instead (RFC 9110 §15.4).
struct Redirect {
  let url: ConnectionURL
  /// Whether what is secret may go there too.
  let keepsOrigin: Bool

  /// - Returns: nil if the answer is no redirect.
  /// - Throws: `WebSocketConnectError.redirect` if it is one that is not followed.
  init?(status: Int, headers: HTTPFields, from url: ConnectionURL) throws(WebSocketConnectError) {
    guard [301, 302, 303, 307, 308].contains(status), let location = headers[.location] else { return nil }
    do { self.url = try url.resolving(location) } catch { throw .redirect("its Location can't be used: \(error)") }
    if self.url.userInfo != nil { throw .redirect("its Location holds user and password") }
    if url.scheme == "wss" && self.url.scheme == "ws" { throw .redirect("it leads from wss: to ws:") }
    keepsOrigin = self.url.scheme == url.scheme && self.url.host == url.host && self.url.port == url.port
  }

  /// What belongs to one origin and is not told another.
  static let secretFields: Set<String> = ["authorization", "cookie", "proxy-authorization"]
}

extension ConnectionURL {
  /// Resolves a reference (RFC 3986 §5.2); `http:` and `https:` stand for `ws:` and `wss:`.
  func resolving(_ reference: String) throws(URLError) -> ConnectionURL {
    if let colon = reference.firstIndex(of: ":"), reference[colon...].hasPrefix("://") {
      let scheme = reference[..<colon].lowercased()
      let own = ["http": "ws", "https": "wss"][scheme] ?? scheme
      return try ConnectionURL(own + reference[colon...].prefix { $0 != "#" })
    }
    let reference = String(reference.prefix { $0 != "#" })
    if reference.hasPrefix("//") { return try ConnectionURL("\(scheme):\(reference)") }
    let base = "\(scheme)://\(authority)"
    if reference.hasPrefix("/") { return try ConnectionURL(base + reference) }
    let path = target.prefix { $0 != "?" }
    if reference.isEmpty || reference.hasPrefix("?") { return try ConnectionURL(base + path + reference) }
    return try ConnectionURL(base + path[...(path.lastIndex(of: "/") ?? path.startIndex)] + reference)
  }
}
