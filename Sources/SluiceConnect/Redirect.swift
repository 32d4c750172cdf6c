import HTTPTypes
import SluiceHTTP
import SluiceStreams

/// Where a server sends a client instead (RFC 9110 §15.4).
package struct Redirect {
  /// With the user and password of the URL that led here, if the origin is the same.
  package let url: ConnectionURL
  /// Whether what is secret may go there too.
  package let keepsOrigin: Bool

  /// - Parameter schemes: What a scheme of a Location stands for, for those that may be used.
  /// - Returns: nil if the answer is no redirect.
  /// - Throws: `NotFollowed` if it is one that is not followed.
  package init?(
    status: Int, headers: HTTPFields, from url: ConnectionURL, schemes: [String: String]
  ) throws(NotFollowed) {
    guard [301, 302, 303, 307, 308].contains(status), let location = headers[.location] else { return nil }
    let target: ConnectionURL
    do { target = try url.resolving(location, schemes) } catch {
      throw NotFollowed(reason: "its Location can't be used: \(error)")
    }
    if target.userInfo != nil { throw NotFollowed(reason: "its Location holds user and password") }
    if url.isSecure && !target.isSecure {
      throw NotFollowed(reason: "it leads from \(url.scheme): to \(target.scheme):")
    }
    keepsOrigin = target.scheme == url.scheme && target.host == url.host && target.port == url.port
    self.url = keepsOrigin ? target.with(url.userInfo) : target
  }

  package struct NotFollowed: Error {
    package let reason: String
  }

  /// What belongs to one origin and is not told another.
  package static let secretFields: Set<String> = ["authorization", "cookie", "proxy-authorization"]
}

extension ConnectionURL {
  /// Whether the scheme says TLS.
  package var isSecure: Bool { scheme == "wss" || scheme == "https" }

  /// Resolves a reference (RFC 3986 §5.2).
  func resolving(_ reference: String, _ schemes: [String: String]) throws(URLError) -> ConnectionURL {
    let reference = reference.wire.prefix { $0 != UInt8(ascii: "#") }
    let allowed = Array(Set(schemes.values))
    if let (name, behind) = reference.divided(at: UInt8(ascii: ":")), behind.begins(with: "//") {
      let scheme = name.text.lowercasedASCII
      return try ConnectionURL("\(schemes[scheme] ?? scheme):\(behind.text)", schemes: allowed)
    }
    if reference.begins(with: "//") { return try ConnectionURL("\(scheme):\(reference.text)", schemes: allowed) }
    let base = "\(scheme)://\(authority)"
    if reference.begins(with: "/") { return try ConnectionURL(base + reference.text, schemes: allowed) }
    let path = target.wire.prefix { $0 != UInt8(ascii: "?") }
    if reference.isEmpty || reference.begins(with: "?") {
      return try ConnectionURL(base + path.text + reference.text, schemes: allowed)
    }
    let folder = path[...(path.lastIndex(of: UInt8(ascii: "/")) ?? path.startIndex)]
    return try ConnectionURL(base + folder.text + reference.text, schemes: allowed)
  }
}
