import DequeModule
import HTTPTypes
import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

/// The opening handshake and the protocol behind it without the connection: takes the bytes that came, gives events, and the bytes that are to be sent.
///
/// For whoever has a transport, a loop and a clock already, and for tests. It does no I/O, starts no timers and knows no tasks; one thread at a
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
  /// The protocol behind the handshake, which says what it is.
  private var machine: WebSocketMachine
  /// What has come and is not decoded yet.
  private var input = Bytes()
  private var events = Deque<Event>()
  private var output = BytesBuilder()
  /// What was sent before the handshake was done.
  private var early: [Message] = []

  private init(
    _ role: WebSocketRole, _ options: WebSocketOptions, _ headLimits: HeadLimits, isSecure: Bool = false
  ) {
    self.options = options
    self.isSecure = isSecure
    self.headLimits = headLimits
    maskingKeys = role == .client ? MaskingKeys() : nil
    head = HeadReader(role == .server ? .request : .response, limits: headLimits)
    machine = WebSocketMachine(role, keys: maskingKeys)
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
    if case .open = phase { advance { try decode(upTo: .max) } }
    if case .over = phase { return }
    if machine.life.isReading {
      machine.receiveEnd(to: &output)
      tellOfEnd()
    }
    phase = .over
  }

  private func tellOfEnd() {
    guard let end = machine.life.readingEnd else { return }
    if let close = end.close {
      events.append(.close(close.code, reason: close.reason))
    } else if let error = end.error {
      events.append(.failed(error))
    }
  }

  /// What was found in what came in, in order. It is looked for as events are taken: take them until there are none before the output.
  public func nextEvent() -> Event? {
    if events.isEmpty, case .open = phase { advance { try decode(upTo: Self.fill) } }
    return events.popFirst()
  }

  /// Events that are found ahead: each costs more than the few bytes that it may be made of.
  private static let fill = 64

  // MARK: what goes out

  /// Takes what is to be sent. May be empty.
  public func takeOutput() -> Bytes { output.isEmpty ? Bytes() : output.take() }

  /// Whether nothing more is to come: once the output is sent, the transport can be closed.
  public var isOver: Bool {
    if case .over = phase { true } else { !machine.life.isReading }
  }

  /// Sends a message; one that comes before the handshake is done is kept until then.
  /// - Throws: `StreamError.closed` after a Close; `WebSocketError.unsupported` for binary in hixie-75 and hixie-76.
  public func send(_ message: Message) throws {
    switch phase {
    case .over: throw StreamError.closed
    case .open: _ = try machine.send(message, to: &output)
    case .serverHead, .clientHead, .challenge: early.append(message)
    }
  }

  /// - Parameter payload: Up to 125 bytes.
  /// - Throws: `WebSocketError.pingTooLong`, `.unsupported`; `StreamError.closed` unless it is open.
  public func ping(_ payload: Bytes = Bytes()) throws { try send(.ping, payload) }

  /// A pong that nobody asked for; pings are answered without this.
  /// - Throws: As `ping`.
  public func pong(_ payload: Bytes = Bytes()) throws { try send(.pong, payload) }

  private func send(_ control: Opcode, _ payload: Bytes) throws {
    guard case .open = phase else { throw StreamError.closed }
    try machine.send(control, payload, to: &output)
  }

  /// Begins the closing handshake. It is done when the peer's Close has come (`isOver`): how long to wait for that is the caller's to say.
  /// - Throws: `WebSocketError.invalidCloseCode`, `.closeReasonTooLong`.
  public func close(_ code: CloseCode = .normal, _ reason: String = "") throws {
    try code.checkFromCaller(reason: reason)
    guard case .open = phase else {
      phase = .over
      return
    }
    machine.close(code, reason, to: &output)
  }
}

// MARK: - the opening handshake

extension WebSocketDriver {
  /// Runs a step, and tells what it throws: to the caller as an event, to the peer as far as it can be told.
  private func advance(_ step: () throws -> Void) {
    do { try step() } catch {
      switch error {
      case let error as WebSocketProtocolError:
        guard machine.life.isReading else { return }
        machine.fail(.protocolViolation(error), error.closeCode, to: &output)
        tellOfEnd()
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
    machine = WebSocketMachine(
      maskingKeys == nil ? .server : .client, version: version, coding: try coding(extensions.sessions),
      allowedReservedBits: extensions.reservedBits, keys: maskingKeys, maxMessageSize: options.maxMessageSize,
      maxFragments: options.maxFragments)
    phase = .open
    events.append(.open)
    for message in early { _ = try machine.send(message, to: &output) }
    early = []
    if !rest.isEmpty { try decode(rest) }
  }

  private func coding(_ sessions: [any ExtensionSession]) throws -> WebSocketMachine.Coding {
    if !version.hasOpcodes { return .hixie(HixieFraming(version, maxSkippedBytes: options.maxMessageSize)) }
    guard let session = sessions.first else { return .plain }
    guard sessions.count == 1, let deflate = session as? DeflateSession else {
      throw WebSocketError.unsupported("an extension other than permessage-deflate without a connection", version)
    }
    deflate.attach(DeflateContexts(), maxMessageSize: options.maxMessageSize)
    return .deflate(deflate)
  }
}

// MARK: - messages

extension WebSocketDriver {
  private func decode(_ bytes: Bytes) throws {
    guard machine.life.isReading else { return }
    input = input.followed(by: bytes)
    try decode(upTo: Self.fill)
    // What is not decoded yet does not hold a buffer of the caller's that is much larger.
    input = input.isEmpty ? Bytes() : input.compacted()
  }

  /// Decodes what has come, until there are so many events.
  private func decode(upTo limit: Int) throws {
    while events.count < limit, machine.life.isReading, let event = try machine.nextEvent(in: &input) {
      switch event {
      case .data(let message): events.append(.message(message.compacted()))
      case .ping(let payload):
        // RFC 6455 §5.5.2: unless a Close was sent.
        if machine.life.isOpen { try machine.send(.pong, payload, to: &output) }
        events.append(.ping(payload.compacted()))
      case .pong(let payload): events.append(.pong(payload.compacted()))
      case .close(let code, let reason):
        machine.receiveClose(code, reason, to: &output)
        tellOfEnd()
      }
    }
  }
}
