import HTTPTypes
import SluiceConnect
import SluiceHTTP
import SluiceIO
import SluiceStreams
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
  ///   is sent; `IOError` if there is no connection, `TLSError` if the server is not to be trusted, `ConnectError` if a proxy is in
  ///   the way or time is up; `WebSocketConnectError` if the server does not agree.
  public static func connect(
    _ url: String, protocols: [String] = [], options: WebSocketClientOptions = WebSocketClientOptions(),
    on loop: UVLoop = .shared
  ) async throws -> WebSocket {
    var target = try ClientTarget(url)
    var options = options
    var request = try ClientRequest(target.url, protocols: protocols, options)
    let start = ContinuousClock.now
    let timeout = options.connectTimeout
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
          request = try ClientRequest(redirect.url, protocols: protocols, options)
        }
      }
    }
  }

  /// Tells an observer of what does not become a connection.
  private static func observed(
    by observer: (any WebSocketObserver)?, _ body: () async throws -> WebSocket
  ) async throws -> WebSocket {
    do { return try await body() } catch {
      if case WebSocketConnectError.handshake(.refused(let status, _, _)) = error {
        observer?.didFailHandshake(status: status)
      } else {
        observer?.didFailHandshake(status: nil)
      }
      throw error
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
    var way = ConnectOptions()
    way.timeout = time
    way.wholeTimeout = options.connectTimeout
    way.stepTimeouts = options.stepTimeouts
    way.tcp = options.tcp
    way.tls = options.tls
    way.proxy = options.proxy
    way.unixSocket = target.unixSocket
    let final = way
    return try await withTaskExecutorPreference(loop) {
      let start = loop.now
      let transport = try await Connect.open(target.origin, options: final, on: loop)
      let left = Swift.max(time - (loop.now - start), .zero)
      return try await open(request, over: transport, within: left, options)
    }
  }

  /// Opens a WebSocket over a byte stream that is connected already: a tunnel, memory, a stream of your own.
  /// - Parameter url: What to ask the server for; its host is not connected to, and `wss:` adds no TLS.
  /// - Throws: as `connect(_:protocols:options:on:)` does.
  public static func connect(
    _ url: String, over transport: some PolledDuplexStream<Bytes, Bytes>, protocols: [String] = [],
    options: WebSocketClientOptions = WebSocketClientOptions()
  ) async throws -> WebSocket {
    let request = try ClientRequest(ConnectionURL(url), protocols: protocols, options)
    return try await observed(by: options.connection.observer) {
      try await withTaskExecutorPreference(transport.loop) {
        try await open(request, over: transport, within: options.connectTimeout, options)
      }
    }
  }

  /// On the transport's loop.
  private static func open(
    _ request: ClientRequest, over transport: some PolledDuplexStream<Bytes, Bytes>, within left: Duration,
    _ options: WebSocketClientOptions
  ) async throws -> WebSocket {
    let loop = transport.loop
    let own = options.stepTimeouts[.handshake]
    let limit = own.map { Swift.min($0, left) } ?? left
    let named = own == limit ? limit : options.connectTimeout
    let timer = loop.schedule(after: limit) { transport.abort(WebSocketConnectError.timeout(named)) }
    defer { loop.cancelTimer(timer) }
    do {
      try await transport.write(request.head)
      let answer = try await ServerAnswer.read(from: transport, limits: options.headLimits)
      if answer.response.status.code != 101 {
        throw ClientHandshakeError.refused(
          status: answer.response.status.code, headers: answer.response.headerFields,
          bodyStart: options.maxRedirects > 0 && Redirect.isRedirect(status: answer.response.status.code)
            ? Bytes() : await RefusalBody.start(of: answer.response, behind: answer.rest, from: transport))
      }
      let agreement = try request.handshake.check(answer.response)
      let opening = WebSocketOpening(
        head: .response(url: request.url.description, PackedHead(answer.head)), subprotocol: agreement.subprotocol)
      return try WebSocket(
        over: transport, role: .client, head: answer.rest, opening: opening, extensions: agreement.extensions,
        in: ConnectionContext(.client, options.connection, on: transport.loop))
    } catch {
      transport.abort(error)
      switch error {
      case let error as ClientHandshakeError: throw WebSocketConnectError.handshake(error)
      case let error as HTTPHeadError: throw WebSocketConnectError.malformedResponse(error)
      default: throw ConnectError.during(.handshake, error)
      }
    }
  }
}

/// What a server answers to a client's handshake.
private struct ServerAnswer {
  let response: HTTPResponse
  let head: Bytes
  /// What was read behind the head: the first frames, or the beginning of a body.
  let rest: Bytes

  /// Reads the head of the final response. Interim ones (RFC 9110 §15.2) are passed over, within the limit of one head.
  static func read(
    from transport: some PolledDuplexStream<Bytes, Bytes>, limits: HeadLimits
  ) async throws -> ServerAnswer {
    var limits = limits
    var reader = HeadReader(limits: limits)
    var next: Bytes?
    while true {
      guard let chunk = if let next { next } else { try await transport.read() } else {
        throw WebSocketConnectError.endedEarly
      }
      next = nil
      guard let (head, rest) = try reader.consume(chunk) else { continue }
      let response = try ResponseHead(head, limits: limits).response
      guard response.status.kind == .informational, response.status.code != 101 else {
        return ServerAnswer(response: response, head: head, rest: rest)
      }
      limits.maxHeadBytes -= head.count
      reader = HeadReader(limits: limits)
      next = rest.isEmpty ? nil : rest
    }
  }
}
