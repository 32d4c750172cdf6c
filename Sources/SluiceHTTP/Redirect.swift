import HTTPTypes
import SluiceStreams

/// Where a server sends a client instead (RFC 9110 §15.4).
package struct Redirect {
  /// With the user and password of the URL that led here, if the origin is the same.
  package let url: ConnectionURL
  /// Whether what is secret may go there too.
  package let keepsOrigin: Bool

  /// - Parameter schemes: What a scheme of a Location stands for, for those that may be used.
  /// - Returns: nil if the response is not a redirect.
  /// - Throws: `NotFollowed` if it is one that is not followed.
  package init?(
    status: Int, headers: HTTPFields, from url: ConnectionURL, schemes: [String: String]
  ) throws(NotFollowed) {
    guard Self.isRedirect(status: status) else { return nil }
    // Of a singleton that is repeated only one and the same value has a meaning.
    let locations = Set(headers[values: .location])
    guard let location = locations.first else { return nil }
    guard locations.count == 1 else { throw NotFollowed(reason: "the response has more than one Location") }
    let target: ConnectionURL
    do { target = try url.resolving(location, schemes) } catch {
      throw NotFollowed(reason: "invalid Location: \(error)")
    }
    if target.userInfo != nil { throw NotFollowed(reason: "its Location contains credentials") }
    if url.isSecure && !target.isSecure {
      throw NotFollowed(reason: "it leads from \(url.scheme): to \(target.scheme):")
    }
    keepsOrigin =
      target.scheme == url.scheme && target.host.lowercasedASCII == url.host.lowercasedASCII && target.port == url.port
    self.url = keepsOrigin ? target.with(url.userInfo) : target
  }

  package static func isRedirect(status: Int) -> Bool { [301, 302, 303, 307, 308].contains(status) }

  package struct NotFollowed: Error {
    package let reason: String
  }

  /// What belongs to one origin and is not told another: its secrets, and a Host of one's own.
  package static let originFields: Set<String> = ["authorization", "cookie", "proxy-authorization", "host"]
}

extension ConnectionURL {
  /// Whether the scheme says TLS.
  package var isSecure: Bool { scheme == "wss" || scheme == "https" }

  /// Where a reference leads (RFC 3986 §5.2). A fragment is not for the server.
  func resolving(_ reference: String, _ schemes: [String: String]) throws(URLError) -> ConnectionURL {
    var target = URIReference(reference).resolved(against: URIReference(description))
    target.fragment = nil
    target.scheme = target.scheme.map { schemes[$0] ?? $0 }
    return try ConnectionURL(target.description, schemes: Set(schemes.values).sorted())
  }
}
