import HTTPTypes
import SluiceEventSource
import SluiceHTTP
import SluiceStreams

/// How an event stream is asked for.
struct EventSourceRequest: Sendable {
  private var request: HTTPClientRequest

  /// Bytes of an id that is named to the server: heads have limits.
  private static let maxIDBytes = 4 << 10

  init(_ url: ConnectionURL, method: HTTPRequest.Method, body: Bytes?, headers: Headers) {
    request = HTTPClientRequest(url, method: method, content: body.map { .bytes($0) } ?? .none, headers: headers)
  }

  var url: ConnectionURL { request.url }

  /// Whether it may be sent again without being asked to.
  var isSafe: Bool { request.isSafe }

  mutating func follow(_ redirect: Redirect, status: Int) { request.follow(redirect, status: status) }

  /// Its head and its body.
  /// - Parameter route: Default: one to the origin itself.
  func bytes(lastEventID: String?, on route: RequestRoute? = nil) throws -> Bytes {
    var fields = [("Accept-Encoding", "gzip"), ("Cache-Control", "no-store")]
    // An id of the server's that no field can hold is not named: it sends from its beginning, rather than nothing any more.
    if let id = lastEventID, !id.isEmpty, id.utf8.count <= Self.maxIDBytes, HTTPSyntax.isValue(id) {
      fields.append(("Last-Event-ID", id))
    }
    return try request.bytes(
      defaults: [("Accept", "text/event-stream")], fields: fields,
      reserved: ["accept-encoding", "cache-control", "last-event-id"], on: route)
  }
}
