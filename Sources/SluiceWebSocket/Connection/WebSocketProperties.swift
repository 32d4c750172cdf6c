import HTTPTypes
import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

/// Where a connection is in its life, with the numbers of the WHATWG standard.
public enum ReadyState: Int, Sendable {
  case connecting = 0
  case open = 1
  case closing = 2
  case closed = 3
}

extension WebSocket {
  /// The URL that was connected to, or that the client asked for.
  public var url: String { opening.url }

  /// The subprotocol agreed upon, or "".
  public var `protocol`: String { opening.subprotocol ?? "" }

  /// On a server: the request that opened the connection, with its path and headers. nil on a client.
  public var request: HTTPRequest? { opening.request }

  /// Where the connection comes from, also behind trusted proxies and load balancers (`WebSocketServerOptions.trustedProxies`, `.proxyProtocolFrom`): nil
  /// if one of these did not say. On a client: what it is connected to, which may be a proxy. nil too where the transport has no such address.
  public var remoteAddress: IPAddress? { opening.remoteAddress }

  /// The path that was asked for, without the query; on a route of an `HTTPServer`, in the spelling that `HTTPRoute` describes.
  public var path: String { opening.target.path }

  /// What stands behind the `?` of the URL; nil if there is none.
  public var query: String? { opening.target.query }

  /// On a route of an `HTTPServer`: what stands in the path where the route's has `{name}`, decoded.
  public var parameters: [String: String] { opening.parameters }

  /// On a server: what `onRequest` has accepted the request with, where it is of this type.
  ///
  /// ```swift
  /// options.onRequest = { request in
  ///   WebSocketAcceptance(value: try await users.find(request.headerFields[.authorization]))
  /// }
  /// try await WebSocket.serve(url, options: options) { ws in
  ///   guard let user = ws.value(as: User.self) else { return }
  /// }
  /// ```
  public func value<Value: Sendable>(as type: Value.Type = Value.self) -> Value? { opening.value as? Value }

  /// On a server: what a command that serves this connection is told of it. None on a client.
  public var cgiVariables: CGIVariables {
    get async { await onLoop { $0.currentVariables } }
  }

  /// The headers of the peer's handshake: the response's on a client, the request's on a server.
  public var headers: Headers {
    Headers(opening.response?.headerFields ?? opening.request?.headerFields ?? [:])
  }

  /// The status of the response on a client: 101. nil on a server.
  public var statusCode: Int? { opening.response?.status.code }

  /// The version of the protocol: "hybi-13" is RFC 6455; a server may meet "hybi-8", "hybi-7", "hixie-76" and "hixie-75".
  public var version: String { opening.version.rawValue }

  public var readyState: ReadyState { published.withLock { $0.readyState } }

  /// Bytes that were sent and that the system has not taken yet, frame headers included. 0 when the connection is over.
  ///
  /// On the connection's loop, as in its handler, it is exact. Elsewhere it is what there was at the end of one of the loop's last turns; asking
  /// brings it up to date.
  public var bufferedAmount: Int {
    if isOnLoop { return queuedByteCount }
    let (amount, isToBeRefreshed) = published.withLock { life in
      let isToBeRefreshed = life.bufferedAmount > 0 && !life.isRefreshing
      if isToBeRefreshed { life.isRefreshing = true }
      return (life.bufferedAmount, isToBeRefreshed)
    }
    // What drains tells nobody.
    if isToBeRefreshed { loop.execute { self.publishBufferedAmount() } }
    return amount
  }

  /// Tells other threads of what is buffered. On the loop.
  func publishBufferedAmount() {
    let amount = queuedByteCount
    outgoing.mayHoldUntold = amount > 0 || !outgoing.isSentToSystem
    published.withLock { life in
      life.bufferedAmount = amount
      life.isRefreshing = false
    }
  }

  /// The code and reason of the peer's Close; 1005 if it had none, nil while none has come. It stays when the connection is over.
  public var closeStatus: (code: CloseCode, reason: String)? {
    published.withLock { $0.received }.map { ($0.code, $0.reason) }
  }

  /// The code and reason of our own Close; 1005 if it has none, nil while none was sent.
  public var sentCloseStatus: (code: CloseCode, reason: String)? {
    published.withLock { $0.sent }.map { ($0.code, $0.reason) }
  }

  private var currentVariables: CGIVariables {
    guard let request else { return CGIVariables() }
    var variables = CGIVariables(request)
    variables.add(transport, from: remoteAddress)
    if remoteAddress == nil { variables.removeRemoteAddress() }
    return variables
  }

  private var currentReadyState: ReadyState {
    switch machine.life {
    case .open: .open
    case .ended(let reading, .failed) where reading.error != nil: .closed
    default:
      switch closing {
      case .lingering, .done: .closed
      case .none, .waiting: .closing
      }
    }
  }

  /// Changes where the connection is in its life, and tells other threads of it.
  func changeLife<R>(_ change: (inout ConnectionLife) -> R) -> R {
    defer { publish() }
    return change(&machine.life)
  }

  /// Tells other threads what has become of the connection. On the loop, whenever that changes.
  func publish() {
    let state = currentReadyState
    let received = received
    let sent = machine.life.writingEnd
    let buffered = queuedByteCount
    published.withLock { life in
      life.bufferedAmount = buffered
      life.readyState = state
      life.received = received
      if life.sent == nil, case .closed(let code, let reason)? = sent { life.sent = CloseStatus(code, reason) }
    }
  }

  /// How the reading has ended, as an error whatever the code is; lost, if it has not.
  package var loss: any Error {
    guard let end = machine.life.readingEnd else { return WebSocketError.connectionLost(underlying: nil) }
    if let error = end.error { return error }
    return WebSocketError.closed(end.close?.code ?? .noStatus, reason: end.close?.reason ?? "")
  }

  package func onLoop<R: Sendable>(_ body: @escaping @Sendable (WebSocket) -> R) async -> R {
    if loop.isCurrent { return body(self) }
    return await withCheckedContinuation { continuation in
      loop.execute { continuation.resume(returning: body(self)) }
    }
  }
}

/// What every thread may know of a connection's life.
struct PublishedLife {
  var readyState = ReadyState.open
  /// Whether `bufferedAmount` is on its way.
  var isRefreshing = false
  var bufferedAmount = 0
  var received: CloseStatus?
  var sent: CloseStatus?
}
