import HTTPTypes
import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceWebSocket
import SluiceWebSocketProtocol

extension WebSocket {
  /// Connects to a server.
  ///
  /// ```swift
  /// let ws = try await WebSocket.connect("wss://example.com/chat", protocols: ["chat.v2", "chat.v1"])
  /// ```
  /// - Parameters:
  ///   - url: `ws://HOST[:PORT][/PATH][?QUERY]`, the same with `wss:`, or `ws+unix:SOCKET[:PATH]` through a Unix socket. User and
  ///     password are sent as Basic credentials.
  ///   - protocols: Subprotocols to offer, the preferred one first; see `protocol` for the server's choice.
  /// - Throws: `URLError`, `SubprotocolError`, `ExtensionOfferError` or `HTTPFieldError` for what can't be asked, before anything
  ///   is sent; `IOError` if there is no connection, `TLSError` if the server is not trusted, `ConnectError` if a proxy is in
  ///   the way or time is up; `WebSocketConnectError` if the server does not agree.
  public static func connect(
    _ url: String, protocols: [String] = [], options: WebSocketClientOptions = WebSocketClientOptions(),
    on loop: UVLoop = .shared
  ) async throws -> WebSocket {
    var target = try ClientTarget(url)
    var options = options
    var request = try ClientRequest(target.url, protocols: protocols, options.request)
    let start = ContinuousClock.now
    let timeout = options.connect.timeout
    var redirects = 0
    return try await observed(by: options.connection.observer) {
      while true {
        let left = Swift.max(timeout - (ContinuousClock.now - start), .zero)
        do {
          return try await open(request, target, within: left, options, on: loop)
        } catch WebSocketConnectError.handshake(.refused(let status, let headers, let bodyStart)) {
          guard options.maxRedirects > 0,
            let redirect = try redirect(status, headers, from: request.url)
          else {
            throw WebSocketConnectError.handshake(.refused(status: status, headers: headers, bodyStart: bodyStart))
          }
          redirects += 1
          guard redirects <= options.maxRedirects else {
            throw WebSocketConnectError.redirect("too many redirects (limit \(options.maxRedirects))")
          }
          if !redirect.keepsOrigin { options.headers.remove(Redirect.originFields) }
          target = ClientTarget(url: redirect.url, unixSocket: redirect.keepsOrigin ? target.unixSocket : nil)
          if !redirect.keepsOrigin { options.connect.unixSocket = nil }
          request = try ClientRequest(redirect.url, protocols: protocols, options.request)
        }
      }
    }
  }

  private static func redirect(
    _ status: Int, _ headers: HTTPFields, from url: ConnectionURL
  ) throws(WebSocketConnectError) -> Redirect? {
    do {
      return try Redirect(
        status: status, headers: headers, from: url, schemes: ["http": "ws", "https": "wss", "ws": "ws", "wss": "wss"])
    } catch {
      throw .redirect(error.reason)
    }
  }

  private static func open(
    _ request: ClientRequest, _ target: ClientTarget, within time: Duration, _ options: WebSocketClientOptions,
    on loop: UVLoop
  ) async throws -> WebSocket {
    var way = options.connect
    way.timeout = time
    way.wholeTimeout = options.connect.timeout
    if let unixSocket = target.unixSocket { way.unixSocket = unixSocket }
    let final = way
    return try await withTaskExecutorPreference(loop) {
      let start = loop.now
      let transport = try await Connect.open(target.origin, options: final, on: loop)
      let (limit, named) = final.limit(of: .handshake, within: Swift.max(time - (loop.now - start), .zero))
      do {
        return try await open(
          request, over: transport, within: limit, outOf: named,
          mayFollowRedirects: options.maxRedirects > 0, options.request)
      } catch {
        throw ConnectError.during(.handshake, error)
      }
    }
  }
}
