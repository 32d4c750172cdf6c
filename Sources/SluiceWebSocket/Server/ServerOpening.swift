import HTTPTypes
import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

/// The opening handshake of one accepted connection, in the loop's callbacks: request head in, response out.
final class ServerOpening: Waker, @unchecked Sendable {  // touched on its loop only
  private let transport: WebSocket.Transport
  private let options: WebSocketServerOptions
  /// The one path that is served, or nil if every one is.
  private let path: String?
  private let completion: (ServerOpening, Result<WebSocket, any Error>) -> Void
  private var state: State
  private var head: HeadReader

  private enum State {
    case reading
    /// hixie-76: our head is sent; the client's last eight bytes may have waited for it in a proxy.
    case readingChallenge(HixieChallenge, WebSocketOpening, body: Bytes)
    /// A rejection is on its way; what the peer still sends is dropped, so that no reset overtakes the answer.
    case rejected(HandshakeRejection)
    case done
  }
  private var timer: LoopTimer?
  /// What is left of the time for the handshake.
  private let time: Duration
  private var admission: Admission?

  /// - Parameter completion: Is called once: with the `HandshakeRejection` that was answered, or what else went wrong, if there
  ///   will be no WebSocket.
  init(
    transport: WebSocket.Transport, path: String?, options: WebSocketServerOptions, time: Duration? = nil,
    admission: Admission? = nil, completion: @escaping (ServerOpening, Result<WebSocket, any Error>) -> Void
  ) {
    self.transport = transport
    self.path = path
    self.options = options
    self.time = time ?? options.handshakeTimeout
    self.admission = admission
    self.completion = completion
    state = .reading
    head = HeadReader(limits: options.headLimits)
  }

  func start() {
    let timeout = options.handshakeTimeout
    timer = transport.loop.schedule(after: time) { self.giveUp(WebSocketConnectError.timeout(timeout)) }
    do {
      try transport.attachReader(self)
      do { try admission?.enter() } catch { try reject(error) }
    } catch {
      return giveUp(error)
    }
    wake()
  }

  /// Ends what is not done: the peer was too slow, or the server stops.
  func giveUp(_ reason: any Error) {
    var reason = reason
    switch state {
    case .done: return
    case .rejected(let rejection): reason = rejection
    case .reading, .readingChallenge: break
    }
    // Done before the abort, which wakes the reader that this still is.
    finish(with: .failure(reason))
    transport.abort(reason)
  }

  func wake() {
    do {
      while true {
        switch (state, try transport.poll()) {
        case (.done, _), (_, .pending): return
        case (.reading, .end), (.readingChallenge, .end): return giveUp(WebSocketConnectError.endedEarly)
        // Nothing is left to read: the answer ends the connection when it has left.
        case (.rejected(let rejection), .end): return finish(with: .failure(rejection))
        case (.rejected, .element): continue
        case (.reading, .element(let chunk)): try read(chunk)
        case (.readingChallenge(let challenge, let opening, let body), .element(let chunk)):
          try readChallenge(challenge, opening, body.followed(by: chunk))
        }
      }
    } catch {
      giveUp(error)
    }
  }

  private func read(_ chunk: Bytes) throws {
    do {
      guard let (bytes, rest) = try head.consume(chunk) else { return }
      try open(bytes, rest: rest)
    } catch let error as HTTPHeadError {
      try reject(HandshakeRejection(status: error.status, reason: error.description))
    } catch let rejection as HandshakeRejection {
      try reject(rejection)
    }
  }

  private func open(_ bytes: Bytes, rest: Bytes) throws {
    let head = try RequestHead(bytes, limits: options.headLimits)
    let request = head.request
    if let path, request.path.map(Self.withoutQuery) != path {
      throw HandshakeRejection(status: 404, reason: "nothing is served at this path")
    }
    try admission?.check(request)
    let agreement = try handshake.answer(
      request, isHTTP11: head.isHTTP11, hasBody: head.hasBody, isSecure: options.tls != nil)
    let extra: Headers
    do { extra = try options.onRequest(request) } catch {
      throw error as? HandshakeRejection ?? HandshakeRejection(status: 500, reason: "the server failed")
    }
    try transport.push(response(agreement, extra))
    transport.flush()
    let opening = WebSocketOpening(
      head: .request(bytes.compacted()), version: agreement.version, subprotocol: agreement.subprotocol,
      limits: options.headLimits, isSecure: options.tls != nil)
    if let challenge = agreement.challenge {
      return try readChallenge(challenge, opening, rest)
    }
    try open(opening, agreement.extensions, head: rest)
  }

  private func open(_ opening: WebSocketOpening, _ extensions: NegotiatedExtensions, head: Bytes) throws {
    transport.detachReader()
    let socket = try WebSocket(
      over: transport, role: .server, head: head, opening: opening, extensions: extensions,
      options: options.connection)
    socket.slot = admission?.slot
    finish(with: .success(socket))
  }

  private var handshake: ServerHandshake {
    ServerHandshake(
      protocols: options.protocols, chooseProtocol: options.chooseProtocol, extensions: options.extensions,
      versions: options.versions, origins: options.origins)
  }

  /// draft-hixie-thewebsocketprotocol-76 §5.2: the last eight bytes of the client's handshake are answered with sixteen.
  private func readChallenge(_ challenge: HixieChallenge, _ opening: WebSocketOpening, _ received: Bytes) throws {
    let count = HixieChallenge.bodyLength
    guard received.count >= count else {
      state = .readingChallenge(challenge, opening, body: received.compacted())
      return
    }
    try transport.push(challenge.answer(to: received.prefix(count)))
    transport.flush()
    try open(opening, NegotiatedExtensions(), head: received.dropFirst(count))
  }

  private func response(_ agreement: ServerHandshake.Agreement, _ extra: Headers) throws(HandshakeRejection) -> Bytes {
    do {
      var writer = HeadWriter("HTTP/1.1 101 \(agreement.version.reasonPhrase)")
      try writer.append(agreement.fields)
      try writer.append(extra, reserved: HandshakeHeaders.reserved)
      return writer.finish()
    } catch {
      // A field of the application's that can't be sent: its log is told by `onRequest`'s caller, the peer is not.
      throw HandshakeRejection(status: 500, reason: "the server failed")
    }
  }

  private func reject(_ rejection: HandshakeRejection) throws {
    state = .rejected(rejection)
    var writer = HeadWriter("HTTP/1.1 \(rejection.status) \(reasonPhrase(forStatus: rejection.status))")
    let body = rejection.reason + "\n"
    try writer.append("Connection", rejection.fields[.connection].map { "close, " + $0 } ?? "close")
    try writer.append("Content-Type", "text/plain; charset=utf-8")
    try writer.append("Content-Length", String(body.utf8.count))
    for field in rejection.fields where field.name != .connection {
      try writer.append(field.name.rawName, field.value)
    }
    try transport.push(writer.finish())
    try transport.push(Bytes(body))
    transport.closeWhenFlushed { _ in }
  }

  /// The path of an origin-form or absolute-form target. A target never makes a server dial anywhere.
  private static func withoutQuery(_ target: String) -> String {
    String(target.prefix { $0 != "?" })
  }

  private func finish(with result: Result<WebSocket, any Error>) {
    if case .done = state { return }
    state = .done
    admission = nil
    if let timer { transport.loop.cancelTimer(timer) }
    if case .failure = result { transport.detachReader() }
    completion(self, result)
  }
}

extension WebSocketVersion {
  /// The words that clients of the first versions want to read behind 101.
  fileprivate var reasonPhrase: String {
    switch self {
    case .hixie75: "Web Socket Protocol Handshake"
    case .hixie76: "WebSocket Protocol Handshake"
    case .hybi7, .hybi8, .hybi13: "Switching Protocols"
    }
  }
}
