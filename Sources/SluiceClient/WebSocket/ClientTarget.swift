import SluiceHTTP
import SluiceStreams

/// Where a client goes: a URL, and the Unix socket if it is reached through one.
struct ClientTarget: Sendable {
  let url: ConnectionURL
  let unixSocket: String?

  init(url: ConnectionURL, unixSocket: String?) {
    self.url = url
    self.unixSocket = unixSocket
  }

  /// - Parameter text: Such as `ws://…`, or `ws+unix:PATH[:REQUEST-PATH]`.
  init(_ text: String, schemes: [String] = ["ws", "wss"]) throws(URLError) {
    for scheme in schemes where text.wire.prefix(scheme.utf8.count + 6).equalsIgnoringCase(scheme + "+unix:") {
      let rest = text.wire.dropFirst(scheme.utf8.count + 6)
      let path = rest.begins(with: "//") ? rest.dropFirst(2) : rest
      let colon = path.firstIndex(of: UInt8(ascii: ":")) ?? path.endIndex
      unixSocket = path[..<colon].text
      let target = path[colon...].dropFirst()
      url = try ConnectionURL(
        "\(scheme)://localhost" + (target.begins(with: "/") ? "" : "/") + target.text, schemes: schemes)
      return
    }
    unixSocket = nil
    url = try ConnectionURL(text, schemes: schemes)
  }

  var origin: Origin { Origin(host: url.host, port: url.port, isSecure: url.scheme == "wss") }
}
