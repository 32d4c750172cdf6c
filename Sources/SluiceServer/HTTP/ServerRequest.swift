import HTTPTypes
import SluiceStreams

/// A request that a route's handler answers, or that has opened its WebSocket or event stream.
public struct ServerRequest: Sendable {
  /// Method, authority, path and fields. The path is in the spelling that `HTTPRoute` describes, the query as it was sent.
  public let head: HTTPRequest
  /// Empty if there is none.
  public let body: RequestBody
  /// Where it comes from, also behind trusted proxies and load balancers (`HTTPServerOptions`); nil if one of them did not say.
  public let remoteAddress: IPAddress?
  /// What stands in the path where the route's has `{name}`, decoded. A value is not empty, and may hold anything else: `%2F` is a slash in it.
  public let parameters: [String: String]
  /// What stands in the path for the route's `*`, as it is spelled there.
  let below: String
  let transport: any PolledDuplexStream<Bytes, Bytes>

  /// The path in the spelling that `HTTPRoute` describes, without the query.
  public var path: String { head.pathAndQuery.path }
  /// What stands behind the `?`.
  public var query: String? { head.pathAndQuery.query }
}
