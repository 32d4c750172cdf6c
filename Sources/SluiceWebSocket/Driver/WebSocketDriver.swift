import DequeModule
import HTTPTypes
import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

/// The protocol without the connection: takes the bytes that came, gives events, and the bytes that are to be sent.
///
/// For programs that have a transport, a loop and a clock already, and for tests. It does no I/O, starts no timers and knows no tasks; one thread at a
/// time uses it.
///
/// ```swift
/// let driver = WebSocketDriver.server()
/// while let bytes = try await socket.read() {
///   driver.receive(bytes)
///   while let event = driver.nextEvent() {
///     if case .message(let message) = event { try driver.send(message) }
///   }
///   try await socket.write(driver.takeOutput())
///   if driver.isOver { break }
/// }
/// ```
/// Of a server's and a client's options those of the handshake, of extensions and the limits of messages count; times are the caller's to keep.
/// `onRequest` is not asked, as nothing waits here: a caller that has read the head asks, and begins with `server(_:options:)`.
/// Of extensions it takes `PermessageDeflate`: others do their work in tasks.
public final class WebSocketDriver {
  public enum Event: Sendable {
    /// The opening handshake is done.
    case open
    case message(Message)
    /// The peer's ping; it is answered already.
    case ping(Bytes)
    case pong(Bytes)
    /// The peer's Close, 1005 if it had no code; it is answered already.
    case close(CloseCode, reason: String)
    /// The handshake was refused, the peer broke the protocol or a limit, or its connection ended without a Close; it is told what can be told. The last event.
    case failed(any Error)
  }

  private enum Phase {
    case serverHead(WebSocketHandshakeOptions)
    /// hixie-76: the client's last eight bytes are to come.
    case challenge(HixieChallenge, ServerHandshake.Agreement, body: Bytes)
    case clientHead(ClientHandshake)
    case open
    case over
  }

  /// What the opening handshake settled; "hybi-13" and no subprotocol before.
  public private(set) var version = WebSocketVersion.hybi13
  public private(set) var `protocol` = ""
  /// On a server: what the client asked for.
  public private(set) var request: HTTPRequest?
  /// On a client: what the server answered.
  public private(set) var response: HTTPResponse?

  private var headLimits: HeadLimits
  private let options: WebSocketOptions
  private let maskingKeys: MaskingKeys?
  private let isSecure: Bool
  private var phase = Phase.over
  private var head: HeadReader
  private var coding = MessageCoding.plain
  private var decoder: FrameDecoder
  private var assembler: MessageAssembler
  private var events = Deque<Event>()
  private var output = BytesBuilder()
  /// What was sent before the handshake was done.
  private var early: [Message] = []
  private var hasSentClose = false
  private var hasReceivedClose = false

  private init(
    _ role: WebSocketRole, _ options: WebSocketOptions, _ headLimits: HeadLimits, isSecure: Bool = false
  ) {
    self.options = options
    self.isSecure = isSecure
    self.headLimits = headLimits
    maskingKeys = role == .client ? MaskingKeys() : nil
    head = HeadReader(role == .server ? .request : .response, limits: headLimits)
    decoder = FrameDecoder(role: role)
    assembler = MessageAssembler(maxMessageSize: options.maxMessageSize, maxFragments: options.maxFragments)
  }

  // MARK: beginning

  /// A server's side, which begins with the request's first byte.
  /// - Parameters:
  ///   - headLimits: Limits of the request's head. Default: 16 KiB, 100 fields.
  ///   - isSecure: Whether it is inside TLS, as the page's own origin says then.
  public static func server(
    options: WebSocketHandshakeOptions = WebSocketHandshakeOptions(), headLimits: HeadLimits = HeadLimits(),
    isSecure: Bool = false
  ) -> WebSocketDriver {
    let driver = WebSocketDriver(.server, options.connection, headLimits, isSecure: isSecure)
    driver.phase = .serverHead(options)
    return driver
  }

  /// A server's side for a request that was read already; what came behind it is to be received.
  public static func server(
    _ request: HTTPRequest, isHTTP11: Bool = true, isSecure: Bool = false,
    options: WebSocketHandshakeOptions = WebSocketHandshakeOptions()
  ) -> WebSocketDriver {
    let driver = WebSocketDriver(.server, options.connection, HeadLimits(), isSecure: isSecure)
    driver.advance {
      let hasBody = try !BodyFraming(request.headerFields).isEmpty
      try driver.answer(request, isHTTP11: isHTTP11, hasBody: hasBody, rest: Bytes(), options)
    }
    return driver
  }

  /// A client's side: its request is the first output.
  /// - Throws: `URLError`, `SubprotocolError`, `HTTPFieldError`.
  public static func client(
    _ url: String, protocols: [String] = [], options: WebSocketRequestOptions = WebSocketRequestOptions()
  ) throws -> WebSocketDriver {
    try client(url, protocols: protocols, key: HandshakeKey(), options: options)
  }

  /// - Parameter key: What the server is to answer.
  package static func client(
    _ url: String, protocols: [String], key: HandshakeKey, options: WebSocketRequestOptions
  ) throws -> WebSocketDriver {
    let request = try ClientRequest(try ConnectionURL(url), protocols: protocols, key: key, options)
    let driver = WebSocketDriver(.client, options.connection, options.headLimits)
    driver.output.append(request.head)
    driver.phase = .clientHead(request.handshake)
    return driver
  }

  // MARK: what comes in

  /// Takes bytes of the peer.
  public func receive(_ bytes: Bytes) {
    advance { try take(bytes) }
  }

  /// The peer's connection has ended.
  public func receiveEnd() {
    if case .open = phase { advance { try decodeFed(upTo: .max) } }
    if case .over = phase { return }
    if case .hixie(let framing) = coding, framing.version == .hixie75, !framing.decoder.isInsideMessage {
      didReceiveClose(nil, "")
    } else if !hasReceivedClose {
      events.append(.failed(WebSocketError.connectionLost(underlying: nil)))
    }
    phase = .over
  }

  /// What was found in what came in, in order. It is looked for as events are taken: take them until there are none before the output.
  public func nextEvent() -> Event? {
    if events.isEmpty, case .open = phase { advance { try decodeFed(upTo: Self.fill) } }
    return events.popFirst()
  }

  /// Events that are found ahead: each costs more than the few bytes that it may be made of.
  private static let fill = 64

  // MARK: what goes out

  /// Takes what is to be sent. May be empty.
  public func takeOutput() -> Bytes { output.isEmpty ? Bytes() : output.take() }

  /// Whether nothing more is to come: once the output is sent, the transport can be closed.
  public var isOver: Bool {
    if case .over = phase { true } else { hasSentClose && hasReceivedClose }
  }

  /// Sends a message; one that comes before the handshake is done is kept until then.
  /// - Throws: `StreamError.closed` after a Close; `WebSocketError.unsupported` for binary in hixie-75 and hixie-76.
  public func send(_ message: Message) throws {
    guard !hasSentClose else { throw StreamError.closed }
    switch phase {
    case .over: throw StreamError.closed
    case .open: try write(message)
    case .serverHead, .clientHead, .challenge: early.append(message)
    }
  }

  /// - Parameter payload: Up to 125 bytes.
  /// - Throws: `WebSocketError.pingTooLong`, `.unsupported`; `StreamError.closed` unless it is open.
  public func ping(_ payload: Bytes = Bytes()) throws { try writeControl(.ping, payload, "a ping") }

  /// A pong that nobody asked for; pings are answered without this.
  /// - Throws: As `ping`.
  public func pong(_ payload: Bytes = Bytes()) throws { try writeControl(.pong, payload, "a pong") }

  /// Begins the closing handshake. It is done when the peer's Close has come (`isOver`): how long to wait for that is the caller's to say.
  /// - Throws: `WebSocketError.invalidCloseCode`, `.closeReasonTooLong`.
  public func close(_ code: CloseCode = .normal, _ reason: String = "") throws {
    try code.checkFromCaller(reason: reason)
    guard case .open = phase else {
      phase = .over
      return
    }
    sendClose(code, reason)
  }
}

// MARK: - the opening handshake

extension WebSocketDriver {
  /// Runs a step, and tells what it throws: to the caller as an event, to the peer as far as it can be told.
  private func advance(_ step: () throws -> Void) {
    do { try step() } catch {
      switch error {
      case let error as WebSocketProtocolError:
        if hasReceivedClose { return }
        sendClose(error.closeCode, "")
        events.append(.failed(WebSocketError.protocolViolation(error)))
      case let error as HTTPHeadError where maskingKeys == nil: refuse(RequestRejection(error))
      case let rejection as RequestRejection: refuse(rejection)
      default: events.append(.failed(error))
      }
      phase = .over
    }
  }

  private func refuse(_ rejection: RequestRejection) {
    if let response = try? rejection.response() { output.append(response) }
    events.append(.failed(rejection))
  }

  private func take(_ bytes: Bytes) throws {
    switch phase {
    case .serverHead(let options):
      guard let (bytes, rest) = try head.consume(bytes) else { return }
      let head = try RequestHead(bytes, limits: headLimits)
      try answer(head.request, isHTTP11: head.isHTTP11, hasBody: head.hasBody, rest: rest, options)
    case .challenge(let challenge, let agreement, let body):
      try take(body.followed(by: bytes), challenge, agreement)
    case .clientHead(let handshake):
      guard let (bytes, rest) = try head.consume(bytes) else { return }
      headLimits.maxHeadBytes -= bytes.count
      head = HeadReader(limits: headLimits)
      try take(ResponseHead(bytes, limits: headLimits).response, rest: rest, handshake)
    case .open: try decode(bytes)
    case .over: break
    }
  }

  private func answer(
    _ request: HTTPRequest, isHTTP11: Bool, hasBody: Bool, rest: Bytes, _ options: WebSocketHandshakeOptions
  ) throws {
    let agreement = try options.agree(
      to: AskedRequest(request, isHTTP11: isHTTP11, hasBody: hasBody, isSecure: isSecure))
    output.append(try agreement.response())
    self.request = request
    version = agreement.version
    self.protocol = agreement.subprotocol ?? ""
    if let challenge = agreement.challenge { return try take(rest, challenge, agreement) }
    try open(agreement.extensions, rest: rest)
  }

  private func take(
    _ body: Bytes, _ challenge: HixieChallenge, _ agreement: ServerHandshake.Agreement
  ) throws {
    guard body.count >= HixieChallenge.bodyLength else {
      phase = .challenge(challenge, agreement, body: body.compacted())
      return
    }
    output.append(challenge.answer(to: body.prefix(HixieChallenge.bodyLength)))
    try open(agreement.extensions, rest: body.dropFirst(HixieChallenge.bodyLength))
  }

  private func take(_ response: HTTPResponse, rest: Bytes, _ handshake: ClientHandshake) throws {
    if response.status.kind == .informational, response.status.code != 101 {
      // All interim responses (RFC 9110 §15.2) and the final one share the limit.
      return try take(rest)
    }
    self.response = response
    let agreement: ClientHandshake.Agreement
    do { agreement = try handshake.check(response) } catch { throw WebSocketConnectError.handshake(error) }
    self.protocol = agreement.subprotocol ?? ""
    try open(agreement.extensions, rest: rest)
  }

  private func open(_ extensions: NegotiatedExtensions, rest: Bytes) throws {
    decoder = FrameDecoder(role: maskingKeys == nil ? .server : .client, allowedReservedBits: extensions.reservedBits)
    if !version.hasOpcodes {
      coding = .hixie(HixieFraming(version, maxSkippedBytes: options.maxMessageSize))
    } else if let session = extensions.sessions.first {
      guard extensions.sessions.count == 1, let deflate = session as? DeflateSession else {
        throw WebSocketError.unsupported("an extension other than permessage-deflate without a connection", version)
      }
      deflate.attach(DeflateContexts(), maxMessageSize: options.maxMessageSize)
      coding = .deflate(deflate)
    }
    phase = .open
    events.append(.open)
    for message in early { try write(message) }
    early = []
    if !rest.isEmpty { try decode(rest) }
  }
}

// MARK: - messages

extension WebSocketDriver {
  private func decode(_ bytes: Bytes) throws {
    if hasReceivedClose { return }
    if case .hixie(let framing) = coding { framing.decoder.feed(bytes) } else { decoder.feed(bytes) }
    try decodeFed(upTo: Self.fill)
    settle()
  }

  /// What is not decoded yet does not hold a buffer of the caller's that is much larger.
  private func settle() {
    if case .hixie(let framing) = coding { framing.decoder.settleInput() } else { decoder.settleInput() }
  }

  private func decodeFed(upTo limit: Int) throws {
    if hasReceivedClose { return }
    if case .hixie(let framing) = coding { return try decode(framing, upTo: limit) }
    while events.count < limit, !hasReceivedClose, let event = try decoder.next(assembling: &assembler) {
      switch event {
      case .message(let message): didReceive(message)
      case .encoded(let piece): try inflate(piece)
      case .ping(let payload):
        if !hasSentClose { appendFrame(.pong, payload) }
        events.append(.ping(payload.compacted()))
      case .pong(let payload): events.append(.pong(payload.compacted()))
      case .close(let code, let reason): didReceiveClose(code, reason)
      }
    }
  }

  private func decode(_ framing: HixieFraming, upTo limit: Int) throws {
    while events.count < limit, !hasReceivedClose, let event = try framing.decoder.next() {
      switch event {
      case .data(let piece): try take(piece)
      case .close(let code, let reason): didReceiveClose(code, reason)
      // These versions have none.
      case .ping, .pong: break
      }
    }
  }

  private func inflate(_ piece: DataPiece) throws {
    // No reserved bit passes the decoder that was not agreed upon.
    guard case .deflate(let session) = coding else { return }
    session.feed(piece)
    while let inflated = try session.nextInflated() { try take(inflated) }
  }

  private func take(_ piece: DataPiece) throws {
    if let message = try assembler.append(piece) { didReceive(message) }
  }

  private func didReceive(_ message: Message) {
    events.append(.message(message.compacted()))
  }

  private func didReceiveClose(_ code: CloseCode?, _ reason: String) {
    hasReceivedClose = true
    // RFC 6455 §5.5.1: the answer echoes the code.
    sendClose(code ?? .noStatus, "")
    events.append(.close(code ?? .noStatus, reason: reason))
  }

  private func sendClose(_ code: CloseCode, _ reason: String) {
    if hasSentClose { return }
    hasSentClose = true
    guard case .open = phase else { return }
    if case .hixie(let framing) = coding { return output.append(framing.closingHandshake) }
    appendFrame(.close, code.payload(reason: reason))
  }

  private func write(_ message: Message) throws {
    switch coding {
    case .hixie(let framing): try framing.append(message.kind, message.bytes, isFinal: true, to: &output)
    case .deflate(let session):
      if message.isCompressible, let compressed = session.compress(message.bytes) {
        return appendFrame(message.kind.opcode, reserved: .rsv1, compressed)
      }
      appendFrame(message.kind.opcode, message.bytes)
    case .plain, .extensions: appendFrame(message.kind.opcode, message.bytes)
    }
  }

  private func writeControl(_ opcode: Opcode, _ payload: Bytes, _ name: String) throws {
    guard payload.count <= 125 else { throw WebSocketError.pingTooLong(byteCount: payload.count) }
    guard case .open = phase, !hasSentClose else { throw StreamError.closed }
    guard version.hasOpcodes else { throw WebSocketError.unsupported(name, version) }
    appendFrame(opcode, payload)
  }

  private func appendFrame(_ opcode: Opcode, reserved: ReservedBits = [], _ payload: Bytes) {
    let key = maskingKeys?.next()
    output.append(
      FrameHeader(opcode, isFinal: true, reserved: reserved, maskingKey: key, payloadLength: payload.count))
    if let key { output.append(payload.span, masking: key) } else { output.append(payload.span) }
  }
}
