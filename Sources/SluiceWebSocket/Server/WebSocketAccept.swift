import HTTPTypes
import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

extension WebSocket {
  /// Whether a request asks for a WebSocket: a GET with `Upgrade: websocket`. Whether it gets one is for `accept` to say.
  public static func isWebSocket(_ request: HTTPRequest) -> Bool {
    ServerHandshake.isWebSocket(request)
  }

  /// Does the server's side of the opening handshake on a byte stream that was accepted already: a Unix socket, a tunnel, memory.
  ///
  /// - Parameters:
  ///   - protocols: Subprotocols that the server speaks, the preferred one first. Default: those of `options`.
  ///   - headLimits: Limits of the request's head. Default: 16 KiB, 100 fields.
  /// - Throws: `RequestRejection` if the request was answered with another status than 101, `WebSocketConnectError` if it did
  ///   not come in time or the stream ended before, or what the stream failed with. The stream is closed then.
  public static func accept(
    over transport: some PolledDuplexStream<Bytes, Bytes>, protocols: [String] = [],
    options: WebSocketHandshakeOptions = WebSocketHandshakeOptions(), headLimits: HeadLimits = HeadLimits()
  ) async throws -> WebSocket {
    try await accept(over: transport, options.speaking(protocols), limits: headLimits) { $0.start() }
  }

  /// Answers a request whose head another server has read, and takes its connection over.
  ///
  /// ```swift
  /// if WebSocket.isWebSocket(request) {
  ///   let ws = try await WebSocket.accept(request, over: connection, head: rest, protocols: ["chat"])
  ///   try await ws.pipe(ws)
  /// }
  /// ```
  /// - Parameters:
  ///   - transport: The byte stream that the request came on. Nothing was answered on it yet, and nobody else reads it.
  ///   - head: What was read behind the empty line that ends the request's head.
  ///   - isHTTP11: Whether the request is of HTTP/1.1, which a WebSocket needs.
  ///   - protocols: Subprotocols that the server speaks, the preferred one first. Default: those of `options`.
  /// - Throws: As `accept(over:protocols:options:)`.
  public static func accept(
    _ request: HTTPRequest, over transport: some PolledDuplexStream<Bytes, Bytes>, head: Bytes = Bytes(),
    isHTTP11: Bool = true, protocols: [String] = [], options: WebSocketHandshakeOptions = WebSocketHandshakeOptions()
  ) async throws -> WebSocket {
    try await accept(
      request, over: transport, head: head, isHTTP11: isHTTP11, RequestContext(), options: options.speaking(protocols)
    )
  }

  package static func accept(
    _ request: HTTPRequest, over transport: some PolledDuplexStream<Bytes, Bytes>, head: Bytes, isHTTP11: Bool,
    _ known: RequestContext, options: WebSocketHandshakeOptions
  ) async throws -> WebSocket {
    try await accept(over: transport, options, peer: known.peer) {
      $0.start(request, parameters: known.parameters, isHTTP11: isHTTP11, rest: head)
    }
  }

  private static func accept(
    over transport: some PolledDuplexStream<Bytes, Bytes>, _ options: WebSocketHandshakeOptions,
    limits: HeadLimits = HeadLimits(), peer: PeerAddress = .ofTransport,
    _ start: @escaping @Sendable (ServerOpening) -> Void
  ) async throws -> WebSocket {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        transport.loop.perform {
          start(
            ServerOpening(
              transport: transport, path: nil, options: options, limits: limits, peer: peer
            ) { _, result in
              continuation.resume(with: result)
            })
        }
      }
    } onCancel: {
      transport.abort(CancellationError())
    }
  }
}

extension WebSocketHandshakeOptions {
  /// - Parameter protocols: What a call names instead of these options' own, if it names any.
  fileprivate func speaking(_ protocols: [String]) -> WebSocketHandshakeOptions {
    if protocols.isEmpty { return self }
    var options = self
    options.protocols = protocols
    return options
  }
}
