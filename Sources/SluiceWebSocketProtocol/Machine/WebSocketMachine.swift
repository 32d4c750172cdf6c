import SluiceStreams

/// The protocol behind the opening handshake, for either side: RFC 6455 with permessage-deflate where that was agreed upon, and the two versions
/// before it.
///
/// A value that does no I/O and knows no clock, loop or task. Bytes that came, what the application asks for and the time go in; messages,
/// bytes to be sent and what is to be done with the connection come out.
///
/// ```swift
/// while let event = try machine.nextEvent(in: &input) {
///   switch event {
///   case .data(let message): handle(message)
///   case .ping(let payload): try machine.send(.pong, payload, to: &output)
///   case .pong: break
///   case .close(let code, let reason): machine.receiveClose(code, reason, to: &output)
///   }
/// }
/// ```
///
/// What came is acted on by the one who runs the machine, who may have to wait: a Close waits for messages before it that are unread, a pong
/// for room.
package struct WebSocketMachine: ~Copyable {
  // The small ones stand together: an idle connection holds all of this.
  private let coding: Coding
  /// Whether messages and their frames are the same bytes: no extension, and none of the first versions.
  package let isPlain: Bool
  private let version: WebSocketVersion
  /// A message that is being sent in parts: another one can't begin inside it (RFC 6455 §5.4).
  package private(set) var sending: PartSending?
  private var decoder: FrameDecoder
  private var assembler: MessageAssembler
  /// A client's only: a server's frames are not masked.
  private let keys: MaskingKeys?
  package var life = ConnectionLife.open
  /// Whether somebody wants to know what happens: times that are kept, or an observer.
  package var isWatched = false
  /// Whether there is an observer, who is to be told of each message.
  package var isObserved = false
  private var watch: Watch?

  /// What stands between messages and frames. Extensions other than compression, which take whole messages and their time, do so outside.
  package enum Coding {
    case plain
    /// permessage-deflate: messages are compressed and inflated in pieces, as they come.
    case deflate(DeflateSession)
    /// The frames of the versions before there were opcodes.
    case hixie(HixieFraming)
  }

  /// In memory of its own: most connections have no times to keep until they close.
  private final class Watch {
    @exclusivity(unchecked) var times: ConnectionTimes

    init(_ times: ConnectionTimes) { self.times = times }
  }

  /// - Parameters:
  ///   - allowedReservedBits: Those that extensions set which were agreed upon.
  ///   - keys: A client's.
  ///   - scratch: What small messages take memory from, where there is a loop that has some.
  package init(
    _ role: WebSocketRole, version: WebSocketVersion = .hybi13, coding: Coding = .plain,
    allowedReservedBits: ReservedBits = [], keys: MaskingKeys?,
    maxMessageSize: Int = MessageAssembler.defaultMaxMessageSize,
    maxFragments: Int = MessageAssembler.defaultMaxFragments, scratch: ScratchBuffers? = nil
  ) {
    self.version = version
    self.coding = coding
    isPlain = if case .plain = coding { true } else { false }
    self.keys = keys
    decoder = FrameDecoder(role: role, allowedReservedBits: allowedReservedBits)
    assembler = MessageAssembler(maxMessageSize: maxMessageSize, maxFragments: maxFragments, scratch: scratch)
  }
}

// MARK: what comes in

extension WebSocketMachine {
  /// Takes the next message or control frame from the front of the input.
  /// - Returns: nil when more input is needed. What comes behind an end is dropped.
  /// - Throws: what the peer did wrong, or which limit it passed, and the same again at every later call: see `fail`.
  package mutating func nextEvent(
    in input: inout Bytes
  ) throws(WebSocketProtocolError) -> FrameEvent<Message>? {
    var message: Message?
    switch try nextMessage(in: &input, &message) {
    case .nothing: return nil
    case .element: return message.map { .data($0) }
    case .control: return FrameEvent(try takeControl())
    }
  }

  /// The next message, if it is short and there as a whole, and stands in the input as it is: see `FrameDecoder.nextShortMessage`.
  package mutating func nextShortMessage(in input: inout Bytes) -> Message? {
    isPlain ? decoder.nextShortMessage(in: &input, assembling: assembler) : nil
  }

  /// Decodes as far as the next message, or control frame.
  package mutating func nextMessage(
    in input: inout Bytes, _ message: inout Message?
  ) throws(WebSocketProtocolError) -> DecoderStop {
    if isPlain { return try decoder.nextMessage(in: &input, assembling: &assembler, &message) }
    return try nextDecoded(in: &input, &message)
  }

  /// The same where messages are encoded, or not framed by this decoder.
  @inline(never)
  private mutating func nextDecoded(
    in input: inout Bytes, _ message: inout Message?
  ) throws(WebSocketProtocolError) -> DecoderStop {
    var piece: DataPiece?
    while true {
      let stop = try nextPiece(in: &input, &piece)
      guard let piece = piece.take() else { return stop }
      do { message = try assemble(piece) } catch {
        input = Bytes()
        throw error
      }
      if message != nil { return .element }
    }
  }

  /// The same on bytes that are only lent, where messages are not encoded: they are unmasked straight from there.
  /// - Parameter position: Where in the input to begin, 0 to `input.count`; where to go on, afterwards.
  package mutating func nextMessage(
    in input: Span<UInt8>, from position: inout Int, _ message: inout Message?
  ) throws(WebSocketProtocolError) -> DecoderStop {
    try decoder.nextMessage(in: input, from: &position, assembling: &assembler, &message)
  }

  /// The same for a part of a message, as it arrives; `maxMessageSize` does not apply.
  package mutating func nextPiece(
    in input: inout Bytes, _ piece: inout DataPiece?
  ) throws(WebSocketProtocolError) -> DecoderStop {
    switch coding {
    case .plain: return try decoder.nextPiece(in: &input, &piece)
    case .hixie(let framing): return try framing.next(in: &input, &piece)
    case .deflate(let session):
      do {
        while true {
          if let inflated = try session.nextInflated() {
            piece = inflated
            return .element
          }
          let stop = try decoder.nextPiece(in: &input, &piece)
          guard let encoded = piece, !encoded.reserved.isEmpty else { return stop }
          piece = nil
          session.feed(encoded)
        }
      } catch {
        decoder.fail(error)
        input = Bytes()
        throw error
      }
    }
  }

  /// The control frame at which decoding has stopped.
  /// - Throws: what is wrong with a Close.
  package mutating func takeControl() throws(WebSocketProtocolError) -> ControlFrame {
    // The first versions have a Close only.
    if case .hixie = coding { return .close(nil, reason: "") }
    return try decoder.takeControl()
  }

  /// Relays whole messages from the front of the input: see `FrameDecoder.relay`.
  package mutating func relay(
    _ input: Span<UInt8>, to output: inout BytesBuilder, limit: Int, highWatermark: Int, keys: MaskingKeys?
  ) -> Int {
    decoder.relay(input, to: &output, limit: limit, highWatermark: highWatermark, keys: keys)
  }

  /// Puts a piece that was taken before to its message, behind which the machine goes on.
  /// - Returns: the message, if the piece ends it.
  package mutating func assemble(_ piece: DataPiece) throws(WebSocketProtocolError) -> Message? {
    do { return try assembler.append(piece) } catch {
      decoder.fail(error)
      throw error
    }
  }

  /// Whether whole messages may be relayed.
  package var hasFrames: Bool {
    if case .hixie = coding { false } else { true }
  }

  /// Whether the peer's Close was decoded: nothing follows it.
  package var hasDecodedClose: Bool { decoder.isClosed }

  /// The peer's Close: answers it, if ours was not sent before.
  package mutating func receiveClose(_ code: CloseCode?, _ reason: String, to output: inout BytesBuilder) {
    let code = code ?? .noStatus
    if life.receiveClose(code, reason) { appendClose(code, "", to: &output) }
  }

  /// The peer's connection has ended. Where that is not as good as a Close, the connection is lost.
  package mutating func receiveEnd(to output: inout BytesBuilder) {
    if mayEnd { return receiveClose(nil, "", to: &output) }
    life.cut(WebSocketError.connectionLost(underlying: nil))
  }

  /// Whether the end of the connection is as good as a Close.
  package var mayEnd: Bool {
    if case .hixie(let framing) = coding { framing.mayEnd } else { false }
  }

  /// Closes from this side, whatever the peer still sends.
  package mutating func fail(_ error: WebSocketError, _ code: CloseCode, to output: inout BytesBuilder) {
    if life.fail(error, code) { appendClose(code, "", to: &output) }
  }
}

// MARK: what goes out

extension WebSocketMachine {
  /// Sends a message as one frame.
  /// - Parameter limit: Bytes of a payload that is copied into the output.
  /// - Returns: a longer payload, if it needs no mask: it follows the output as it is.
  /// - Throws: `StreamError.closed` after a Close; `WebSocketError.insideMessage`; `.unsupported` for binary in hixie-75 and hixie-76.
  package mutating func send(
    _ message: Message, to output: inout BytesBuilder, copyingUpTo limit: Int = .max
  ) throws -> Bytes? {
    guard life.isOpen else { throw StreamError.closed }
    guard sending == nil else { throw WebSocketError.insideMessage }
    switch coding {
    case .plain: break
    case .deflate(let session):
      guard message.isCompressible, let compressed = session.compress(message.bytes) else { break }
      return append(message.kind.opcode, reserved: .rsv1, compressed, to: &output, copyingUpTo: limit)
    case .hixie(let framing):
      try framing.append(message.kind, message.bytes, isFinal: true, to: &output)
      return nil
    }
    return append(message.kind.opcode, message.bytes, to: &output, copyingUpTo: limit)
  }

  /// Sends a part of a message as a frame of its own: the message's kind in the first, continuations behind it (RFC 6455 §5.4).
  /// - Throws: as `send` of a message; `WebSocketError.invalidText` if the text so far is none, and nothing of the part is sent then.
  package mutating func send(
    _ part: MessagePart, to output: inout BytesBuilder, copyingUpTo limit: Int = .max
  ) throws -> Bytes? {
    guard life.isOpen else { throw StreamError.closed }
    let (kind, isFirst) = try admit(part)
    let opcode = isFirst ? kind.opcode : .continuation
    switch coding {
    case .plain: break
    case .deflate(let session):
      let compressed = session.compress(
        fragment: part.bytes, isCompressible: part.isCompressible, isFinal: part.isFinal)
      guard let compressed else { break }
      // RFC 7692 §6: only the first frame says that the message is compressed.
      return append(
        opcode, isFinal: part.isFinal, reserved: isFirst ? .rsv1 : [], compressed, to: &output, copyingUpTo: limit)
    case .hixie(let framing):
      try framing.append(kind, part.bytes, isFinal: part.isFinal, to: &output)
      return nil
    }
    return append(opcode, isFinal: part.isFinal, part.bytes, to: &output, copyingUpTo: limit)
  }

  /// Checks the next part of a message that is being sent; what it becomes is for another to say.
  @discardableResult
  package mutating func admit(_ part: borrowing MessagePart) throws -> (kind: MessageKind, isFirst: Bool) {
    let isFirst = sending == nil
    var sending = sending ?? PartSending(kind: part.kind)
    try sending.check(part)
    self.sending = part.isFinal ? nil : sending
    return (sending.kind, isFirst)
  }

  /// Sends a message as an extension has encoded it, also behind a Close that waits for it.
  package mutating func send(
    encoded message: ExtensionMessage, to output: inout BytesBuilder, copyingUpTo limit: Int
  ) -> Bytes? {
    append(message.kind.opcode, reserved: message.reserved, message.bytes, to: &output, copyingUpTo: limit)
  }

  /// Sends a ping or a pong.
  /// - Throws: `WebSocketError.pingTooLong` for more than 125 bytes, `.unsupported` in hixie-75 and hixie-76; `StreamError.closed` after a Close.
  package mutating func send(_ control: Opcode, _ payload: Bytes, to output: inout BytesBuilder) throws {
    guard payload.count <= 125 else { throw WebSocketError.pingTooLong(byteCount: payload.count) }
    guard life.isOpen else { throw StreamError.closed }
    guard version.hasOpcodes else {
      throw WebSocketError.unsupported(control == .ping ? "a ping" : "a pong", version)
    }
    _ = append(control, payload, to: &output, copyingUpTo: .max)
  }

  /// Sends a Close, unless one was sent. The closing handshake is done when the peer's has come.
  package mutating func close(_ code: CloseCode, _ reason: String, to output: inout BytesBuilder) {
    if life.close(code, reason) { appendClose(code, reason, to: &output) }
  }

  /// Writes a Close that was decided upon before, and had to wait for what is sent before it.
  package mutating func appendClose(_ code: CloseCode, _ reason: String, to output: inout BytesBuilder) {
    // A message under way has no end then, so that nobody takes it for a whole one.
    if case .hixie(let framing) = coding { return output.append(framing.closingHandshake) }
    _ = append(.close, code.payload(reason: reason), to: &output, copyingUpTo: .max)
  }

  /// The connection is given up.
  package mutating func release() {
    if case .deflate(let session) = coding { session.close() }
  }

  private mutating func append(
    _ opcode: Opcode, isFinal: Bool = true, reserved: ReservedBits = [], _ payload: Bytes,
    to output: inout BytesBuilder, copyingUpTo limit: Int
  ) -> Bytes? {
    let header = FrameHeader(
      opcode, isFinal: isFinal, reserved: reserved, maskingKey: keys?.next(), payloadLength: payload.count)
    if header.maskingKey == nil, payload.count > limit {
      output.append(header)
      return payload
    }
    output.append(header, payload.span)
    return nil
  }
}

// MARK: times

extension WebSocketMachine {
  /// Keeps the times of a connection from now on.
  /// - Parameter now: On any clock, which all calls share.
  package mutating func keepTimes(_ limits: ConnectionTimes.Limits, from now: Duration) {
    if watch != nil { return }
    watch = Watch(ConnectionTimes(limits, from: now, canPing: version.hasOpcodes))
  }

  /// Notes what happens, where times are kept.
  package mutating func note(_ activity: Activity, at now: Duration) { watch?.times.note(activity, at: now) }
  package mutating func noteUnread() { watch?.times.noteUnread() }

  /// The ping that was due has left: the time for an answer counts.
  package mutating func pingDidLeave() { watch?.times.pingDidLeave() }

  /// Whether a ping that was due waits for anything to come.
  package var isAwaitingLife: Bool { watch?.times.isAwaitingLife == true }

  /// When something may be due; nil where no time counts. To be asked for again after what is due was taken, and after every call that closes.
  /// - Parameter transport: What its peer has taken so far.
  package mutating func deadline(at now: Duration, _ transport: TransportProgress) -> Duration? {
    guard let watch else { return nil }
    if !life.isOpen { watch.times.beginClosing(at: now, transport) }
    return watch.times.deadline
  }

  /// What is due by now. To be asked for again until it gives nil.
  package mutating func next(dueAt now: Duration, _ transport: TransportProgress) -> ConnectionTimes.Due? {
    guard let watch else { return nil }
    if !life.isReading { watch.times.stopPings() }
    return watch.times.next(dueAt: now, transport)
  }

  /// The connection is given up: no time counts any more.
  package mutating func stopTimes() { watch = nil }
}
