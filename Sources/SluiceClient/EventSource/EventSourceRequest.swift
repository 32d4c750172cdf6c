import HTTPTypes
import SluiceEventSource
import SluiceHTTP
import SluiceStreams

/// What a client asks for, also behind redirects.
struct EventSourceRequest: Sendable {
  private(set) var url: ConnectionURL
  private(set) var method: HTTPRequest.Method
  private var body: Bytes?
  private var headers: Headers

  /// Bytes of an id that is named to the server: heads have limits.
  private static let maxIDBytes = 4 << 10

  init(_ url: ConnectionURL, method: HTTPRequest.Method, body: Bytes?, headers: Headers) {
    self.url = url
    self.method = method
    self.body = body
    self.headers = headers
  }

  /// Whether it may be sent again without being asked to (RFC 9110 §9.2.1).
  var isSafe: Bool { [.get, .head, .options].contains(method) }

  mutating func follow(_ redirect: Redirect, status: Int) {
    if !redirect.keepsOrigin { headers.remove(Redirect.originFields) }
    url = redirect.url
    // RFC 9110 §15.4: 303 leads to something to be got, and so do 301 and 302 behind POST, for historical reasons.
    guard status == 303 || (method == .post && (status == 301 || status == 302)) else { return }
    method = .get
    body = nil
    headers.remove(Self.contentFields)
  }

  /// What describes a body (§8), and goes with it.
  private static let contentFields: Set<String> = [
    "content-type", "content-encoding", "content-language", "content-location",
  ]

  /// Its head and its body.
  /// - Parameter route: Default: one to the origin itself.
  func bytes(lastEventID: String?, on route: RequestRoute? = nil) throws -> Bytes {
    var headers = headers
    var writer = HeadWriter("\(method.rawValue) \(route?.target(of: url) ?? url.target) HTTP/1.1")
    try writer.append("Host", headers.takeHost() ?? url.authority)
    try route?.forwarding?.append(to: &writer)
    var reserved: Set<String> = [
      "host", "accept-encoding", "cache-control", "last-event-id", "content-length", "transfer-encoding", "connection",
    ]
    if !headers.contains(where: { $0.name.utf8.equalsIgnoringCase("accept") }) {
      try writer.append("Accept", "text/event-stream")
    }
    try writer.append("Accept-Encoding", "gzip")
    try writer.append("Cache-Control", "no-store")
    // An id of the server's that no field can hold is not named: it sends from its beginning, rather than nothing any more.
    if let id = lastEventID, !id.isEmpty, id.utf8.count <= Self.maxIDBytes, HTTPSyntax.isValue(id) {
      try writer.append("Last-Event-ID", id)
    }
    if let userInfo = url.userInfo {
      try writer.append("Authorization", BasicCredentials(userInfo).field)
      reserved.insert("authorization")
    }
    try writer.append(headers, reserved: reserved)
    // §8.6: a method whose content has a meaning says that there is none.
    if let count = body?.count ?? (isSafe ? nil : 0) { try writer.append("Content-Length", String(count)) }
    return writer.finish(body: body ?? Bytes())
  }
}
