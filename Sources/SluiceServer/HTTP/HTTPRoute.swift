import HTTPTypes
import SluiceEventSource
import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceWebSocket

import struct SystemPackage.FilePath

/// What a server does with the requests for a path.
///
/// ```swift
/// .respond("/private/*") { _ in throw RequestRejection(status: 403, reason: "members only") },
/// .webSocket("/rooms/{room}") { ws in try await ws.send("this is \(ws.parameters["room"] ?? "")") },
/// .files("/*", in: "public"),
/// ```
///
/// A route's path begins with a slash, which is added where it is missing. It is matched segment by segment: as they are written, any one that is not empty
/// for `{name}`, and everything below for a `*` at the end. The first route that matches is used; a request that does not ask for a WebSocket passes a
/// WebSocket's route by if another one follows, so that a page and its socket can share a path.
///
/// A request's path has one spelling, in which routes match it and handlers see it: letters, digits and ``-._~!$&'()*+,;=:@`` stand as they are, and
/// everything else as `%` and two capital hexadecimal digits. So `/%70rivate/x` is `/private/x`, and `%2F` is part of its segment. Dot segments are resolved
/// (RFC 3986 §5.2.4), however they are written; empty segments (`//`) stay. A `%` without two digits is answered with 400.
public struct HTTPRoute: Sendable {
  typealias Responder = @Sendable (ServerRequest) async throws -> ServerResponse

  enum Action: Sendable {
    case webSocket(WebSocketHandshakeOptions, Handler<WebSocket>)
    case events(EventSourceServerOptions, Handler<EventStreamConnection>)
    case respond([HTTPRequest.Method], Responder)
  }

  /// What is done with a connection that has become another thing.
  typealias Handler<Connection> = @Sendable (Connection) async throws -> Void

  private let pattern: RoutePattern
  let action: Action

  private init(path: String, action: Action) { self.init(pattern: RoutePattern(path), action: action) }

  private init(pattern: RoutePattern, action: Action) {
    self.pattern = pattern
    self.action = action
  }

  /// Serves WebSockets: what the handler does is as for `WebSocket.serve`. `ws.parameters` has what stands in the path for `{name}`.
  public static func webSocket(
    _ path: String, options: WebSocketHandshakeOptions = WebSocketHandshakeOptions(),
    _ handler: @escaping @Sendable (WebSocket) async throws -> Void
  ) -> HTTPRoute {
    HTTPRoute(path: path, action: .webSocket(options, handler))
  }

  /// Serves event streams: what the handler does is as for `EventSource.serve`. `events.parameters` has what stands in the path for `{name}`.
  public static func events(
    _ path: String, options: EventSourceServerOptions = EventSourceServerOptions(),
    _ handler: @escaping @Sendable (EventStreamConnection) async throws -> Void
  ) -> HTTPRoute {
    HTTPRoute(path: path, action: .events(options, handler))
  }

  /// Answers requests. A handler that throws a `RequestRejection` answers with that; anything else goes to the log, and 500 to the client.
  /// - Parameter methods: Those that are answered, others get 405; HEAD is answered where GET is.
  public static func respond(
    _ path: String, methods: [HTTPRequest.Method] = [.get],
    _ handler: @escaping @Sendable (ServerRequest) async throws -> ServerResponse
  ) -> HTTPRoute {
    HTTPRoute(path: path, action: .respond(methods, handler))
  }

  /// Serves a page that the program holds.
  public static func page(_ path: String, _ contents: Bytes, type: String = "text/html; charset=utf-8") -> HTTPRoute {
    respond(path) { _ in .bytes(contents, type: type) }
  }

  /// Serves the files of a folder and those below it, with `index.html` for a path that ends in `/`. Names that begin with a dot are not
  /// served.
  /// - Parameters:
  ///   - path: Where the folder stands: `/static/*`, or `/*`.
  ///   - links: Where symbolic links may lead. Default: to what the folder contains anyway, so that someone who can write into it can expose nothing else.
  public static func files(_ path: String, in folder: FilePath, links: FileLinks = .withinFolder) -> HTTPRoute {
    let files = StaticFiles(folder: folder, links: links)
    return respond(path) { try await files.respond(to: $0) }
  }

  /// This route, if it answers requests, for those that pass a check, and with fields in its answers.
  package func guarded(
    adding fields: Headers, _ check: @escaping @Sendable (HTTPRequest) throws -> Void
  ) -> HTTPRoute {
    guard case .respond(let methods, let respond) = action else { return self }
    return HTTPRoute(
      pattern: pattern,
      action: .respond(methods) { request in
        try check(request.head)
        var response = try await respond(request)
        for (name, value) in fields {
          if let name = HTTPField.Name(name) { response.fields.append(HTTPField(name: name, value: value)) }
        }
        return response
      })
  }

  /// Whether a request is one that this route is for, rather than one that it would refuse.
  private func isMeant(by request: HTTPRequest) -> Bool {
    switch action {
    case .webSocket: WebSocket.isWebSocket(request)
    // What comes with another method is for a route beside it: `ServerResponse.events` answers a POST.
    case .events: [.get, .head, .options].contains(request.method)
    case .respond(let methods, _): Self.allows(request.method, methods)
    }
  }

  static func allows(_ method: HTTPRequest.Method, _ methods: [HTTPRequest.Method]) -> Bool {
    methods.contains(method) || (method == .head && methods.contains(.get))
  }

  /// - Throws: `RequestRejection`: 404 if there is no route to the path, 501 for a method that no route could accept.
  static func find(
    _ request: HTTPRequest, in routes: [HTTPRoute]
  ) throws(RequestRejection) -> (HTTPRoute, RoutePattern.Match) {
    // RFC 9110 §9.1: not implemented is told from not allowed.
    guard commonMethods.contains(request.method) || routes.contains(where: { $0.implements(request.method) }) else {
      throw RequestRejection(status: 501, reason: "unknown method")
    }
    let path = request.pathAndQuery.path
    let candidates = routes.compactMap { route in route.pattern.match(path).map { (route, $0) } }
    guard let found = candidates.first(where: { $0.0.isMeant(by: request) }) ?? candidates.first else {
      throw RequestRejection(status: 404, reason: "not found")
    }
    return found
  }

  private static let commonMethods: Set<HTTPRequest.Method> = [.get, .head, .post, .put, .delete, .options, .patch]

  private func implements(_ method: HTTPRequest.Method) -> Bool {
    if case .respond(let methods, _) = action { methods.contains(method) } else { false }
  }
}
