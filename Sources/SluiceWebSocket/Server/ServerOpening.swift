import HTTPTypes
import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

/// The opening handshake of one accepted connection, in the loop's callbacks: request head in, response out. It keeps itself alive through its transport.
package final class ServerOpening: SingleWaker, @unchecked Sendable {  // touched on its loop only
  private let transport: WebSocket.Transport
  private let options: WebSocketHandshakeOptions
  private let limits: HeadLimits
  private let context: ConnectionContext
  /// The one path that is served, or nil if every one is.
  private let path: String?
  private let completion: (ServerOpening, Result<WebSocket, any Error>) -> Void
  private var state: State
  private var head: HeadReader

  private enum State {
    case reading
    /// The application looks at the request. What the client sends meanwhile is kept, up to a limit.
    case asking(Task<Void, Never>, rest: Bytes)
    /// hixie-76: our head is sent; the client's last eight bytes may have waited for it in a proxy.
    case readingChallenge(HixieChallenge, WebSocketOpening, body: Bytes)
    /// A rejection is on its way; what the peer still sends is dropped, so that no reset overtakes the answer.
    case rejected(RequestRejection)
    case done
  }
  /// Whether the request is HEAD, whose answer is a head alone.
  private var isHead = false
  /// Whether the client reached this server through TLS.
  private let isSecure: Bool
  private var timer: LoopTimer?
  /// What is left of the time for the handshake.
  private let time: Duration
  private var admission: Admission?
  private let peer: PeerAddress

  /// - Parameters:
  ///   - peer: Where the connection comes from, where there is no admission that knows it.
  ///   - completion: Is called once: with the `RequestRejection` that was answered, or what else went wrong, if there
  ///     will be no WebSocket.
  package init(
    transport: WebSocket.Transport, path: String?, options: WebSocketHandshakeOptions,
    limits: HeadLimits = HeadLimits(),
    context: ConnectionContext? = nil, time: Duration? = nil, admission: Admission? = nil,
    peer: PeerAddress = .ofTransport,
    completion: @escaping (ServerOpening, Result<WebSocket, any Error>) -> Void
  ) {
    self.transport = transport
    self.path = path
    self.options = options
    self.context = context ?? ConnectionContext(.server, options.connection, on: transport.loop)
    self.time = time ?? options.handshakeTimeout
    self.admission = admission
    self.peer = peer
    self.limits = limits
    self.completion = completion
    state = .reading
    head = HeadReader(.request, limits: limits)
    isSecure = (transport as? any TransportDescribing)?.isSecure ?? false
  }

  /// Reads the request from the transport, and answers it.
  package func start() {
    begin { try self.admission?.enter() }
  }

  /// Answers a request that another server has read.
  /// - Parameter rest: What was read behind its head.
  func start(_ request: HTTPRequest, parameters: [String: String], isHTTP11: Bool, rest: Bytes) {
    begin {
      self.isHead = request.method == .head
      let hasBody = try !BodyFraming(request.headerFields).isEmpty
      try self.answer(
        .parsed(ParsedRequest(request, parameters: parameters)), request, isHTTP11: isHTTP11, hasBody: hasBody,
        rest: rest)
    }
  }

  private func begin(_ body: () throws -> Void) {
    let timeout = options.handshakeTimeout
    timer = transport.loop.schedule(after: time) { self.giveUp(WebSocketConnectError.timeout(timeout)) }
    do {
      try transport.attachReader(self)
      try rejecting(body)
    } catch {
      return giveUp(error)
    }
    wake()
  }

  /// Answers with what the handshake is rejected for, if it is.
  private func rejecting(_ body: () throws -> Void) throws {
    do { try body() } catch let error as HTTPHeadError {
      try reject(RequestRejection(error))
    } catch let rejection as RequestRejection {
      try reject(rejection)
    }
  }

  /// Ends what is not done: the peer was too slow, or the server stops.
  package func giveUp(_ reason: any Error) {
    var reason = reason
    switch state {
    case .done: return
    case .rejected(let rejection): reason = rejection
    case .reading, .asking, .readingChallenge: break
    }
    // Done before the abort, which wakes the reader that this still is.
    finish(with: .failure(reason))
    transport.abort(reason)
  }

  package func wake() {
    do {
      while !isDone {
        if case .asking(_, let rest) = state, rest.count >= Self.maxEarlyBytes { return }
        switch (state, try transport.poll()) {
        case (.done, _), (_, .pending): return
        case (.reading, .end), (.asking, .end), (.readingChallenge, .end):
          return giveUp(WebSocketConnectError.endedEarly)
        // Nothing is left to read: the answer ends the connection when it has left.
        case (.rejected(let rejection), .end): return finish(with: .failure(rejection))
        case (.rejected, .element): continue
        case (.reading, .element(let chunk)): try read(chunk)
        case (.asking(let task, let rest), .element(let chunk)):
          state = .asking(task, rest: rest.followed(by: transport.detach(chunk)))
        case (.readingChallenge(let challenge, let opening, let body), .element(let chunk)):
          try readChallenge(challenge, opening, body.followed(by: chunk))
        }
      }
    } catch {
      giveUp(error)
    }
  }

  private func read(_ chunk: Bytes) throws {
    try rejecting {
      guard let (bytes, rest) = try head.consume(chunk) else { return }
      let head = try RequestHead(bytes, limits: limits)
      isHead = head.request.method == .head
      if let path, head.request.path.map(Self.withoutQuery) != path {
        throw RequestRejection(status: 404, reason: "not found")
      }
      try admission?.check(head.request)
      try answer(
        .request(PackedHead(bytes)), head.request, isHTTP11: head.isHTTP11, hasBody: head.hasBody, rest: rest)
    }
  }

  private func answer(
    _ head: WebSocketOpening.Head, _ request: HTTPRequest, isHTTP11: Bool, hasBody: Bool, rest: Bytes
  ) throws {
    let asked = AskedRequest(request, isHTTP11: isHTTP11, hasBody: hasBody, isSecure: isSecure)
    let agreement = try options.agree(to: asked)
    guard let onRequest = options.onRequest else { return try accept(head, agreement, value: nil, rest: rest) }
    let task = Task(executorPreference: transport.loop) { [options, loop = transport.loop] in
      let settled: Result<(ServerHandshake.Agreement, value: (any Sendable)?), any Error>
      do { settled = .success(try await options.settle(asked, agreement, asking: onRequest)) } catch {
        settled = .failure(error)
      }
      loop.perform { self.didAsk(head, settled) }
    }
    state = .asking(task, rest: transport.detach(rest))
  }

  /// Bytes that a client may send ahead while the application looks at its request.
  private static let maxEarlyBytes = 64 << 10

  private func didAsk(
    _ head: WebSocketOpening.Head,
    _ settled: Result<(ServerHandshake.Agreement, value: (any Sendable)?), any Error>
  ) {
    guard case .asking(_, let rest) = state else { return }
    state = .reading
    do {
      try rejecting {
        let (agreement, value) = try settled.get()
        try accept(head, agreement, value: value, rest: rest)
      }
    } catch {
      return giveUp(error)
    }
    wake()
  }

  private func accept(
    _ head: WebSocketOpening.Head, _ agreement: ServerHandshake.Agreement, value: (any Sendable)?, rest: Bytes
  ) throws {
    try transport.send(agreement.response())
    let opening = WebSocketOpening(head: head, agreement, value: value, isSecure: isSecure)
    if let challenge = agreement.challenge {
      return try readChallenge(challenge, opening, rest)
    }
    try open(opening, agreement.extensions, head: rest)
  }

  private func open(_ opening: WebSocketOpening, _ extensions: NegotiatedExtensions, head: Bytes) throws {
    transport.detachReader()
    let socket = try WebSocket(
      over: transport, role: .server, head: head, opening: opening, extensions: extensions,
      peer: admission?.slot.map { .known($0.address) } ?? peer, in: context)
    socket.slot = admission?.slot?.held()
    finish(with: .success(socket))
  }

  /// draft-hixie-thewebsocketprotocol-76 §5.2: the last eight bytes of the client's handshake are answered with sixteen.
  private func readChallenge(_ challenge: HixieChallenge, _ opening: WebSocketOpening, _ received: Bytes) throws {
    let count = HixieChallenge.bodyLength
    guard received.count >= count else {
      Reached.mark("ws.hixieChallengeCut")
      state = .readingChallenge(challenge, opening, body: received.compacted())
      return
    }
    try transport.send(challenge.answer(to: received.prefix(count)))
    try open(opening, NegotiatedExtensions(), head: received.dropFirst(count))
  }

  private func reject(_ rejection: RequestRejection) throws {
    Reached.mark("ws.handshakeRefused")
    state = .rejected(rejection)
    try transport.push(rejection.response(isHead: isHead))
    transport.closeWhenFlushed { _ in }
  }

  /// A target never makes a server dial anywhere.
  private static func withoutQuery(_ target: String) -> String {
    target.wire.prefix { $0 != UInt8(ascii: "?") }.text
  }

  /// What the transport has then is for whoever took it over.
  private var isDone: Bool {
    if case .done = state { true } else { false }
  }

  private func finish(with result: Result<WebSocket, any Error>) {
    if case .done = state { return }
    if case .failure(let error) = result {
      options.connection.observer?.didFailHandshake(status: (error as? RequestRejection)?.status)
    }
    if case .asking(let task, _) = state { task.cancel() }
    state = .done
    admission = nil
    if let timer { transport.loop.cancelTimer(timer) }
    if case .failure = result { transport.detachReader() }
    completion(self, result)
  }
}
