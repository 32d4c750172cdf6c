import HTTPTypes
import SluiceIO
import SluiceStreams

/// A request that a route's handler answers.
public struct ServerRequest: Sendable {
  /// Method, authority, path and fields.
  public let head: HTTPRequest
  /// Empty if there is none.
  public let body: RequestBody
  /// Where it comes from, also behind trusted proxies and load balancers (`HTTPServerOptions`).
  public let remoteAddress: IPAddress?
  let transport: any PolledDuplexStream<Bytes, Bytes>

  /// The path as it was sent, without the query.
  public var path: String { head.pathAndQuery.path }
  /// What stands behind the `?`.
  public var query: String? { head.pathAndQuery.query }
}

extension HTTPRequest {
  var pathAndQuery: (path: String, query: String?) {
    let target = path ?? "/"
    guard let (path, query) = target.wire.divided(at: UInt8(ascii: "?")) else { return (target, nil) }
    return (path.text, query.text)
  }
}
