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
    } else if text.hasPrefix("/") || (text == "*" && method == .options) {
      (authority, path) = (host, text)
    } else {
      (authority, path) = try Self.absolute(text)
    }
  }

  /// §3.2.2: a whole URL says whose it is, whatever Host says. Credentials have no place in it (RFC 9110 §4.2.4).
  private static func absolute(_ text: String) throws(HTTPHeadError) -> (String, String) {
    let lowercased = text.lowercased()
    guard let scheme = ["http://", "https://", "ws://", "wss://"].first(where: { lowercased.hasPrefix($0) }) else {
      throw .invalidTarget
    }
    let rest = text.dropFirst(scheme.count)
    let authority = rest.prefix { $0 != "/" && $0 != "?" }
    guard HTTPSyntax.isAuthority(String(authority)) else { throw .invalidTarget }
    let path = rest[authority.endIndex...]
    return (String(authority), path.hasPrefix("/") ? String(path) : "/" + path)
  }
}
