import HTTPTypes
import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceWebSocketProtocol

extension WebSocket {
  /// Connects to a server.
  ///
  /// ```swift
  /// let ws = try await WebSocket.connect("ws://127.0.0.1:8000/chat", protocols: ["chat.v2", "chat.v1"])
  /// ```
  /// - Parameters:
  ///   - url: `ws://HOST[:PORT][/PATH][?QUERY]`.
  ///   - protocols: Subprotocols to offer, the preferred one first; see `protocol` for the server's choice.
  /// - Throws: `URLError`, `SubprotocolError`, `ExtensionOfferError` or `HTTPFieldError` for what can't be asked, before anything is sent; `IOError`
  ///   if there is no connection; `WebSocketConnectError` if the server does not agree.
  public static func connect(
    _ url: String, protocols: [String] = [], options: WebSocketClientOptions = WebSocketClientOptions(),
    on loop: UVLoop = .shared
  ) async throws -> WebSocket {
    let parsed = try ConnectionURL(url, schemes: ["ws"])
    let request = try ClientRequest(parsed, protocols: protocols, options)
    return try await withTaskExecutorPreference(loop) {
      let start = loop.now
      let transport = try await TCP.connect(
        parsed.host, port: parsed.port, timeout: options.connectTimeout, options: options.tcp, on: loop)
      let left = Swift.max(options.connectTimeout - (loop.now - start), .zero)
      return try await open(request, over: transport, within: left, options)
    }
  }

  /// Opens a WebSocket over a byte stream that is connected already: a Unix socket, a tunnel, memory.
  /// - Parameter url: What to ask the server for; its host is not connected to.
  /// - Throws: as `connect(_:protocols:options:on:)` does.
  public static func connect(
    _ url: String, over transport: some PolledDuplexStream<Bytes, Bytes>, protocols: [String] = [],
    options: WebSocketClientOptions = WebSocketClientOptions()
  ) async throws -> WebSocket {
    let request = try ClientRequest(
      ConnectionURL(url, schemes: ["ws"]), protocols: protocols, options)
    return try await withTaskExecutorPreference(transport.loop) {
      try await open(request, over: transport, within: options.connectTimeout, options)
    }
  }

  /// On the transport's loop.
  private static func open(
    _ request: ClientRequest, over transport: some PolledDuplexStream<Bytes, Bytes>, within time: Duration,
    _ options: WebSocketClientOptions
  ) async throws -> WebSocket {
    let loop = transport.loop
    let timer = loop.schedule(after: time) {
      transport.abort(WebSocketConnectError.timeout(options.connectTimeout))
    }
    defer { loop.cancelTimer(timer) }
    do {
      try await transport.write(request.head)
      let answer = try await readAnswer(from: transport, limits: options.headLimits)
      let agreement = try request.handshake.check(answer.response)
      let opening = WebSocketOpening(
        head: .response(url: request.url, answer.head.compacted()), subprotocol: agreement.subprotocol,
        limits: options.headLimits)
      return try WebSocket(
        over: transport, role: .client, head: answer.rest, opening: opening, extensions: agreement.extensions,
        options: options.connection)
    } catch {
      transport.abort(error)
      switch error {
      case let error as ClientHandshakeError: throw WebSocketConnectError.handshake(error)
      case let error as HTTPHeadError: throw WebSocketConnectError.malformedResponse(error)
      default: throw error
      }
    }
  }

  private struct Answer {
    let response: HTTPResponse
    let head: Bytes
    /// What was read behind the head: the first frames.
    let rest: Bytes
  }

  /// Reads the head of the final response. Interim ones (RFC 9110 §15.2) are passed over, within the limit of one head.
  private static func readAnswer(
    from transport: some PolledDuplexStream<Bytes, Bytes>, limits: HeadLimits
  ) async throws -> Answer {
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
        return Answer(response: response, head: head, rest: rest)
      }
      limits.maxHeadBytes -= head.count
      reader = HeadReader(limits: limits)
      next = rest.isEmpty ? nil : rest
    }
  }
}

/// What a client sends, checked before it connects.
private struct ClientRequest: Sendable {
  let url: String
  let handshake: ClientHandshake
  let head: Bytes

  init(_ url: ConnectionURL, protocols: [String], _ options: WebSocketClientOptions) throws {
    self.url = url.description
    handshake = try ClientHandshake(protocols: protocols, extensions: options.extensions)
    var writer = HeadWriter("GET \(url.target) HTTP/1.1")
    try writer.append("Host", url.authority)
    try writer.append(handshake.fields)
    var reserved = HandshakeHeaders.reserved
    if let userInfo = url.userInfo {
      // RFC 7617: what stands in the URL is sent as Basic credentials.
      try writer.append("Authorization", "Basic " + Base64.encode(userInfo.utf8))
      reserved.insert("authorization")
    }
    try writer.append(options.headers, reserved: reserved)
    head = writer.finish()
  }
}
