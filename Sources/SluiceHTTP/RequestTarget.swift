import HTTPTypes
import SluiceStreams

/// What a request asks for, and of whom (RFC 9112 §3.2, §3.3).
struct RequestTarget {
  let authority: String
  /// The path in its one spelling, and the query as it was sent; "*" of OPTIONS for the server itself, the authority of CONNECT.
  let path: String

  /// - Parameter host: The Host field, "" where HTTP/1.0 has none.
  init(_ target: Bytes, method: HTTPRequest.Method, host: String) throws(HTTPHeadError) {
    // §3.2: a fragment is for the client alone.
    guard !target.isEmpty, target.allSatisfy({ HTTPSyntax.isTargetCharacter($0) && $0 != UInt8(ascii: "#") }) else {
      throw .invalidTarget
    }
    guard host.isEmpty || HTTPSyntax.isAuthority(host) else { throw .invalidHost }
    let text = target.string
    if method == .connect {
      guard HTTPSyntax.isAuthority(text) else { throw .invalidTarget }
      (authority, path) = (host, text)
    } else if target.begins(with: "/") {
      (authority, path) = (host, try Self.normalized(text.wire))
    } else if target == "*" && method == .options {
      (authority, path) = (host, text)
    } else {
      (authority, path) = try Self.absolute(text.wire)
    }
  }

  /// §3.2.2: a whole URL says whose it is, whatever Host says. Credentials have no place in it (RFC 9110 §4.2.4).
  private static func absolute(_ text: WireText) throws(HTTPHeadError) -> (String, String) {
    guard let (scheme, behind) = text.divided(at: UInt8(ascii: ":")),
      ["http", "https", "ws", "wss"].contains(where: { scheme.equalsIgnoringCase($0) }), behind.begins(with: "//")
    else { throw .invalidTarget }
    let rest = behind.dropFirst(2)
    let authority = rest.prefix { $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "?") }
    guard HTTPSyntax.isAuthority(authority.text) else { throw .invalidTarget }
    let path = rest[authority.endIndex...]
    return (authority.text, try normalized(path.begins(with: "/") ? path : ("/" + path.text).wire))
  }

  private static func normalized(_ target: WireText) throws(HTTPHeadError) -> String {
    let path = target.prefix { $0 != UInt8(ascii: "?") }
    guard let normalized = RequestPath.normalized(path) else { throw .invalidTarget }
    return normalized + target[path.endIndex...].text
  }
}

extension HTTPRequest {
  package var pathAndQuery: (path: String, query: String?) { SluiceHTTP.pathAndQuery(of: path ?? "/") }
}

/// A target without its query, and the query.
package func pathAndQuery(of target: String) -> (path: String, query: String?) {
  guard let (path, query) = target.wire.divided(at: UInt8(ascii: "?")) else { return (target, nil) }
  return (path.text, query.text)
}
