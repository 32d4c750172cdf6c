import SluiceIO
import SluiceStreams
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
    while let socket = try await connections.read() {
      do {
        try await handler(socket)
        if await socket.readyState == .open {
          try await socket.close(.normal)
          return
        }
      } catch {
        let isLost = await socket.hasEnded(with: error)
        if Task.isCancelled || !isLost {
          socket.abort(error)
          throw error
        }
      }
    }
  }

  /// The connections to a server, one after the other, as a stream: reading gives the first, and when that has been lost the next.
  /// It ends when the peer has closed with 1000, and throws an error that is final.
  ///
  /// A connection that is still open when the next one is read is closed.
  public static func connections(
    to url: String, protocols: [String] = [], options: WebSocketClientOptions = WebSocketClientOptions(),
    reconnect: ReconnectOptions = ReconnectOptions(), on loop: UVLoop = .shared
  ) -> some ReadableStream<WebSocket> {
    let connector = Reconnector(
      url: url, protocols: protocols, options: options, reconnect: reconnect, loop: loop)
    return Readable<WebSocket>(onCancel: { _ in Task { await connector.stop() } }, { try await connector.next() })
  }

  /// Whether an error tells no more than that this connection has ended.
  fileprivate func hasEnded(with error: any Error) async -> Bool {
    await withCheckedContinuation { continuation in
      loop.perform { continuation.resume(returning: self.isEnd(error)) }
    }
  }
}

/// Makes one connection after the other.
private actor Reconnector {
  private let url: String
  private let protocols: [String]
  private let options: WebSocketClientOptions
  private let reconnect: ReconnectOptions
  private let loop: UVLoop
  private var backoff: Backoff
  private var attempts = 0
  private var current: (socket: WebSocket, since: ContinuousClock.Instant)?
  private var isStopped = false

  init(
    url: String, protocols: [String], options: WebSocketClientOptions, reconnect: ReconnectOptions, loop: UVLoop
  ) {
    self.url = url
    self.protocols = protocols
    self.options = options
    self.reconnect = reconnect
    self.loop = loop
    backoff = Backoff(reconnect)
  }

  func stop() {
    isStopped = true
    current?.socket.cancel(nil)
    current = nil
  }

  /// - Returns: nil when there is no need for another connection.
  func next() async throws -> WebSocket? {
    var lastError: (any Error)?
    if let (socket, since) = current {
      current = nil
      backoff.connectionDidEnd(after: .now - since)
      switch await socket.closeStatus?.code {
      case .normal: return nil
      case let code?: lastError = WebSocketError.closed(code, reason: "")
      case nil: lastError = WebSocketError.connectionLost(underlying: nil)
      }
      socket.cancel(nil)
      try await wait(lastError)
    }
    while !isStopped {
      do {
        return try await connect(lastError)
      } catch {
        if Task.isCancelled || reconnect.isFinal(error) { throw error }
        lastError = error
        try await wait(error)
      }
    }
    return nil
  }

  private func connect(_ lastError: (any Error)?) async throws -> WebSocket {
    var attempt = ReconnectOptions.Attempt(
      number: attempts, lastError: lastError, url: url, headers: options.headers)
    attempts += 1
    await reconnect.prepare(&attempt)
    var options = options
    options.headers = attempt.headers
    let socket = try await WebSocket.connect(attempt.url, protocols: protocols, options: options, on: loop)
    current = (socket, .now)
    return socket
  }

  private func wait(_ error: (any Error)?) async throws {
    var wanted: Duration?
    if case WebSocketConnectError.handshake(.refused(_, let headers, _))? = error {
      wanted = headers[.retryAfter].flatMap { Int($0) }.flatMap { $0 >= 0 && $0 < 1 << 31 ? .seconds($0) : nil }
    }
    guard let delay = backoff.nextDelay(wanted: wanted, random: Double.random(in: 0...1)) else {
      throw error ?? StreamError.closed
    }
    try await Task.sleep(for: delay)
  }
}
