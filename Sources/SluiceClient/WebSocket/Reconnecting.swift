import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceWebSocket
import SluiceWebSocketProtocol

extension WebSocket {
  /// Connects, runs a handler, and connects again whenever the connection was lost.
  ///
  /// ```swift
  /// try await WebSocket.reconnecting("wss://example.com/feed") { ws in
  ///   for try await message in ws { print(message.text) }
  /// }
  /// ```
  /// The handler is run anew with each connection. It is over when the handler returns although its connection is open, which is closed
  /// then; when the peer has closed with 1000; when an error is final; or when the handler throws an error of its own.
  /// - Throws: the final error, the handler's own, or `CancellationError`.
  public static func reconnecting(
    _ url: String, protocols: [String] = [], options: WebSocketClientOptions = WebSocketClientOptions(),
    reconnect: ReconnectOptions = ReconnectOptions(), on loop: UVLoop = .shared,
    _ handler: @escaping @Sendable (WebSocket) async throws -> Void
  ) async throws {
    let connections = connections(to: url, protocols: protocols, options: options, reconnect: reconnect, on: loop)
    try await run(handler, with: connections)
  }

  /// A stream of messages that goes on over another connection whenever one was lost: see `ReconnectingStream`.
  ///
  /// Messages that the system had not taken are sent again, whole; what arrives on one connection is read before what arrives on the next.
  /// Reading ends when the peer has closed with 1000, or after `close()`. The first connection is made by the first read or write.
  ///
  /// ```swift
  /// let log = WebSocket.reconnecting("wss://example.com/log")
  /// try await StandardIO().messages(.lines).pipe(log)
  /// ```
  public static func reconnecting(
    _ url: String, protocols: [String] = [], options: WebSocketClientOptions = WebSocketClientOptions(),
    reconnect: ReconnectOptions = ReconnectOptions(), on loop: UVLoop = .shared
  ) -> ReconnectingStream<Message, Message> {
    stream(
      over: connections(to: url, protocols: protocols, options: options, reconnect: reconnect, on: loop), on: loop)
  }

  /// The connections to a server, one after the other, as a stream: reading gives the first, and when that has been lost the next.
  /// It ends when the peer has closed with 1000, and throws an error that is final.
  ///
  /// A connection that is still open when the next one is read is closed.
  public static func connections(
    to url: String, protocols: [String] = [], options: WebSocketClientOptions = WebSocketClientOptions(),
    reconnect: ReconnectOptions = ReconnectOptions(), on loop: UVLoop = .shared
  ) -> some ReadableStream<WebSocket> {
    connections(to: url, headers: options.headers, reconnect: reconnect, on: loop) { attempt in
      var options = options
      options.headers = attempt.headers
      return try await connect(attempt.url, protocols: protocols, options: options, on: loop)
    }
  }

  // MARK: over any transport

  /// Connections that are made in some way.
  package static func connections(
    to url: String, headers: Headers, reconnect: ReconnectOptions, on loop: any Loop,
    _ connect: @escaping @Sendable (ReconnectOptions.Attempt) async throws -> WebSocket
  ) -> Readable<WebSocket> {
    Reconnector(
      reconnect, url: url, headers: headers, on: loop, connect: connect,
      end: { socket in await socket.onLoop { $0.giveUp() } }
    ).connections
  }

  /// Runs a handler with each of the connections, until it is over.
  package static func run(
    _ handler: @escaping @Sendable (WebSocket) async throws -> Void, with connections: some ReadableStream<WebSocket>
  ) async throws {
    while let socket = try await connections.read() {
      do {
        try await handler(socket)
        if socket.readyState == .open {
          try await socket.close(.normal)
          return
        }
      } catch {
        let isLost = await socket.onLoop { $0.isEnd(error) }
        if Task.isCancelled || !isLost {
          socket.abort(error)
          throw error
        }
      }
    }
  }

  /// The connections as one stream of messages.
  package static func stream(
    over connections: some ReadableStream<WebSocket>, on loop: any Loop
  ) -> ReconnectingStream<Message, Message> {
    ReconnectingStream(
      over: Readable<any PolledDuplexStream<Message, Message>>(
        onCancel: { connections.cancel($0) }, { try await connections.read() }),
      resumingAt: .element, endsAsOne: true, on: loop)
  }

  /// Closes, if that is not done, and tells how this ended. On the loop.
  private func giveUp() -> ConnectionEnd {
    defer { cancel(nil) }
    let loss = loss
    return if case WebSocketError.closed(.normal, _) = loss { .final } else { .lost(loss) }
  }
}

// MARK: which errors are final

extension WebSocketConnectError: RetryAdvising {
  package var isFinal: Bool {
    switch self {
    case .handshake(.refused(let status, _, _)): ReconnectOptions.isFinal(status: status)
    case .redirect: true
    case .handshake, .malformedResponse, .endedEarly, .timeout: false
    }
  }

  package var retryAfter: Duration? {
    if case .handshake(.refused(_, let headers, _)) = self { headers.retryAfter() } else { nil }
  }
}

extension WebSocketError: RetryAdvising {
  package var isFinal: Bool {
    switch self {
    case .protocolViolation, .extensionFailed: true
    // RFC 6455 §7.4.1: what the peer does not want of us.
    case .closed(let code, _): [1002, 1003, 1007, 1008, 1009, 1010].contains(code.rawValue)
    default: false
    }
  }
}

extension SubprotocolError: RetryAdvising {
  package var isFinal: Bool { true }
}

extension ExtensionOfferError: RetryAdvising {
  package var isFinal: Bool { true }
}
