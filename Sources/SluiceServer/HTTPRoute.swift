import HTTPTypes
import SluiceEventSource
import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceWebSocket

import struct SystemPackage.FilePath

/// What a server does with the requests for a path.
///
/// A path is matched as it is written, or with everything below it: `/static/*`. It begins with a slash, which is added where it is missing. The first route that matches counts; a request that is no
/// WebSocket's passes a WebSocket's route by if another one follows, so that a page and its socket can share a path.
public struct HTTPRoute: Sendable {
  typealias Responder = @Sendable (ServerRequest) async throws -> ServerResponse

  enum Action: Sendable {
    case webSocket(WebSocketServerOptions, @Sendable (WebSocket) async throws -> Void)
    case events(EventSourceServerOptions, @Sendable (EventStreamConnection) async throws -> Void)
    case respond([HTTPRequest.Method], Responder)
  }
  let path: String
  let action: Action

  private init(path: String, action: Action) {
    self.path = Self.rooted(path)
    self.action = action
  }

  private static func rooted(_ path: String) -> String { path.utf8.begins(with: "/") ? path : "/" + path }

  /// Serves WebSockets: what the handler does is as for `WebSocket.serve`.
  /// - Parameter options: Of the handshake and the connections. Those of the listening are the HTTP server's own.
  public static func webSocket(
    _ path: String, options: WebSocketServerOptions = WebSocketServerOptions(),
    _ handler: @escaping @Sendable (WebSocket) async throws -> Void
  ) -> HTTPRoute {
    HTTPRoute(path: path, action: .webSocket(options, handler))
  }

  /// Serves event streams: what the handler does is as for `EventSource.serve`.
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
  ///   - links: Where symbolic links may lead. Default: to what the folder has anyway; whoever can write into it gives away nothing else.
  public static func files(_ path: String, in folder: FilePath, links: FileLinks = .withinFolder) -> HTTPRoute {
    let path = rooted(path)
    let files = StaticFiles(folder: folder, prefix: Self.prefix(of: path) ?? path, links: links)
    return respond(path) { try await files.respond(to: $0) }
  }

  /// Of `/static/*`: `/static/`.
  private static func prefix(of path: String) -> String? {
    path.utf8.ends(with: "/*") ? path.utf8.dropLast().text : nil
  }

  func matches(_ path: String) -> Bool {
    guard let prefix = Self.prefix(of: self.path) else { return path.utf8.equals(self.path) }
    return path.utf8.begins(with: prefix)
  }

  /// Whether a request is one that this route is for, rather than one that it would refuse.
  private func isMeant(by request: HTTPRequest) -> Bool {
    switch action {
    case .webSocket: WebSocket.isWebSocket(request)
    case .events: true
    case .respond(let methods, _): Self.allows(request.method, methods)
    }
  }

  static func allows(_ method: HTTPRequest.Method, _ methods: [HTTPRequest.Method]) -> Bool {
    methods.contains(method) || (method == .head && methods.contains(.get))
  }

  /// - Throws: `RequestRejection`: 404 if there is no route to the path.
  static func find(_ request: HTTPRequest, in routes: [HTTPRoute]) throws(RequestRejection) -> HTTPRoute {
    let path = request.pathAndQuery.path
    let candidates = routes.filter { $0.matches(path) }
    guard let route = candidates.first(where: { $0.isMeant(by: request) }) ?? candidates.first else {
      throw RequestRejection(status: 404, reason: "nothing is served at this path")
    }
    return route
  }
}
