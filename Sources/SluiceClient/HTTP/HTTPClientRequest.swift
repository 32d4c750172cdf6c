import HTTPTypes
import SluiceHTTP
import SluiceStreams

/// What a client asks for, also behind redirects.
struct HTTPClientRequest: Sendable {
  private(set) var url: ConnectionURL
  private(set) var method: HTTPRequest.Method
  private(set) var content: HTTPExchange.Content
  private var headers: Headers

  init(_ url: ConnectionURL, method: HTTPRequest.Method, content: HTTPExchange.Content, headers: Headers) {
    self.url = url
    self.method = method
    self.content = content
    self.headers = headers
  }

  /// Whether it may be sent again without being asked to (RFC 9110 §9.2.1).
  var isSafe: Bool { [.get, .head, .options].contains(method) }

  mutating func follow(_ redirect: Redirect, status: Int) {
    if !redirect.keepsOrigin { headers.remove(Redirect.originFields) }
    url = redirect.url
    // RFC 9110 §15.4: 303 leads to something to be got, and so do 301 and 302 behind POST, for historical reasons.
    guard status == 303 && method != .head || (method == .post && (status == 301 || status == 302)) else { return }
    method = .get
    content = .none
    headers.remove(Self.contentFields)
  }

  /// What describes a body (§8), and goes with it.
  private static let contentFields: Set<String> = [
    "content-type", "content-encoding", "content-language", "content-location",
  ]

  /// Its head, and its body where that is held.
  /// - Parameters:
  ///   - defaults: Fields that the user's own take the place of.
  ///   - fields: Fields that are not the user's to set.
  ///   - reserved: Names, in lower case, of fields that may be among these.
  ///   - route: Default: one to the origin itself.
  func bytes(
    defaults: [(String, String)] = [], fields: [(String, String)], reserved: Set<String>, on route: RequestRoute? = nil
  ) throws -> Bytes {
    var headers = headers
    var writer = HeadWriter("\(method.rawValue) \(route?.target(of: url) ?? url.target) HTTP/1.1")
    try writer.append("Host", headers.takeHost() ?? url.authority)
    try route?.forwarding?.append(to: &writer)
    var reserved = reserved.union(["host", "content-length", "transfer-encoding", "connection"])
    for (name, value) in defaults where !headers.contains(where: { $0.name.utf8.equalsIgnoringCase(name) }) {
      try writer.append(name, value)
    }
    for (name, value) in fields { try writer.append(name, value) }
    if let userInfo = url.userInfo {
      try writer.append("Authorization", BasicCredentials(userInfo).field)
      reserved.insert("authorization")
    }
    try writer.append(headers, reserved: reserved)
    switch content {
    case .none:
      // §8.6: a method whose content has a meaning says that there is none.
      if !isSafe { try writer.append("Content-Length", "0") }
      return writer.finish()
    case .bytes(let body):
      try writer.append("Content-Length", String(body.count))
      return writer.finish(body: body)
    case .stream(let length):
      if let length {
        try writer.append("Content-Length", String(length))
      } else {
        try writer.append("Transfer-Encoding", "chunked")
      }
      return writer.finish()
    }
  }
}
