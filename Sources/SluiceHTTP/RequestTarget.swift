import HTTPTypes
import SluiceStreams

/// What a request asks for, and of whom (RFC 9112 §3.2, §3.3).
struct RequestTarget {
  let authority: String
  /// Path and query; "*" of OPTIONS for the server itself, the authority of CONNECT.
  let path: String

  /// - Parameter host: The Host field, "" where HTTP/1.0 has none.
  init(_ target: Bytes, method: HTTPRequest.Method, host: String) throws(HTTPHeadError) {
    guard !target.isEmpty, target.allSatisfy(HTTPSyntax.isTargetCharacter) else { throw .invalidTarget }
    guard host.isEmpty || HTTPSyntax.isAuthority(host) else { throw .invalidHost }
    let text = target.string
    if method == .connect {
      guard HTTPSyntax.isAuthority(text) else { throw .invalidTarget }
      (authority, path) = (host, text)
    } else if target.begins(with: "/") || (target == "*" && method == .options) {
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
    return (authority.text, path.begins(with: "/") ? path.text : "/" + path.text)
  }
}
