import SluiceStreams
import SluiceWebSocketProtocol

extension WebSocket {
  /// Payloads up to this many bytes are gathered into one write; longer ones leave as they are.
  static let gatherLimit = 16 << 10

  /// Also false while others wait in `send`, who were first, and while a message is being sent in fragments: another one can't begin inside it
  /// (RFC 6455 §5.4).
  /// - Throws: `WebSocketError.closed` when the peer has closed with a code that tells of a failure; `StreamError.closed` after any other Close
  ///   in either direction; otherwise what the connection failed with.
  public func hasRoom() throws -> Bool {
    if heldControls?.senders != nil, case .open = writeState {
      isRoomAwaited = true
      return false
    }
    do { return try hasRoomForMessage() } catch {
      isEndTold = true
      throw error
    }
  }

  func hasRoomForMessage() throws -> Bool {
    if sendingFragments != nil, case .open = writeState {
      isRoomAwaited = true
      return false
    }
    return try hasRoomForFragment()
  }

  func hasRoomForFragment() throws -> Bool {
    switch writeState {
    case .open:
      if try hasRoomNow() { return true }
      isRoomAwaited = true
      watchForStall()
      return false
    case .closed: throw closedByPeer ?? StreamError.closed
    case .failed(let error): throw error
    }
  }

  /// What reading fails with, if it was the peer that closed.
  private var closedByPeer: (any Error)? {
    guard heldControls?.didPeerCloseFirst == true, case .failed(let error) = readState else { return nil }
    return error
  }

  func hasRoomNow() throws -> Bool {
    if case .extensions(let pipeline) = coding, !pipeline.hasRoom { return false }
    return try gathered.count < options.writeHighWatermark && transport.hasRoom()
  }

  public func push(_ message: consuming Message) throws {
    guard case .open = writeState else {
      _ = try hasRoom()
      return
    }
    guard sendingFragments == nil else { throw WebSocketError.insideMessage }
    let count = message.bytes.count
    switch coding {
    case .plain: try appendFrame(message.kind.opcode, isFinal: true, message.bytes)
    case .deflate(let session):
      if message.isCompressible, let compressed = session.compress(message.bytes) {
        try appendFrame(message.kind.opcode, isFinal: true, reserved: .rsv1, compressed)
      } else {
        try appendFrame(message.kind.opcode, isFinal: true, message.bytes)
      }
    case .extensions(let pipeline): pipeline.send(message, for: self)
    case .hixie(let framing): try append(message.kind, message.bytes, isFinal: true, framing)
    }
    noteSent(count, endsMessage: true)
  }

  /// Begins to gather what leaves at the end of the turn, unless that has begun.
  func beginGathering() {
    if gathered.capacity == 0 { gathered = context.takeScratch() }
    flushAtEndOfTurn()
  }

  /// Encodes one frame: into the gathered bytes, or, if it is long and needs no mask, behind them without a copy.
  func appendFrame(_ opcode: Opcode, isFinal: Bool, reserved: ReservedBits = [], _ payload: Bytes) throws {
    beginGathering()
    let key = maskingKeys?.next()
    gathered.append(
      FrameHeader(opcode, isFinal: isFinal, reserved: reserved, maskingKey: key, payloadLength: payload.count))
    if let key {
      gathered.append(payload.span, masking: key)
    } else if payload.count > Self.gatherLimit {
      if !gathered.isEmpty { try transport.push(gathered.take()) }
      return try transport.push(payload)
    } else {
      gathered.append(payload.span)
    }
    if gathered.count >= options.writeHighWatermark { try transport.push(gathered.take()) }
  }

  /// The frame of a version that has no opcodes.
  func append(_ kind: MessageKind, _ bytes: Bytes, isFinal: Bool, _ framing: HixieFraming) throws {
    beginGathering()
    try framing.append(kind, bytes, isFinal: isFinal, to: &gathered)
    if gathered.count >= options.writeHighWatermark { try transport.push(gathered.take()) }
  }

  public var queuedByteCount: Int {
    let queued = gathered.count + transport.queuedByteCount + (heldControls?.heldBehindFragments?.byteCount ?? 0)
    if case .extensions(let pipeline) = coding { return queued + pipeline.queuedByteCount }
    return queued
  }

  public var deliveredByteCount: Int? { transport.deliveredByteCount }

  public func flush() {
    // A transport that has failed says so itself, at the next `hasRoom`.
    try? context.send(gathered.move(), to: transport)
    if isRoomAwaited { tellOfRoom() }
  }

  func flushAtEndOfTurn() {
    if isFlushScheduled { return }
    isFlushScheduled = true
    context.flushAtEndOfTurn(self)
  }

  /// Wakes the writer that was told that there is no room, if there is.
  func tellOfRoom() {
    isRoomAwaited = false
    guard (try? hasRoomForFragment()) != false else { return }
    heldControls?.roomAwaitedSince = nil
    writer.wake()
  }

}

extension WebSocket: SentByteCounting {
  /// With the frames' headers. What an extension has still to encode is counted as if it were not changed.
  package var sentByteCount: Int? { (transport as? any SentByteCounting)?.sentByteCount }
}

// MARK: control frames

extension WebSocket {
  func answerPing(_ payload: Bytes) {
    sendPong(payload)
    heldControls?.observer?.didReceivePing(payload)
  }

  /// Sends a Pong, or keeps it until there is room, in place of the one that waits for that.
  func sendPong(_ payload: Bytes) {
    guard case .open = writeState else { return }
    if (try? transport.hasRoom()) == true {
      heldControls?.unsentPong = nil
      sendControl(.pong, payload)
    } else {
      controls.unsentPong = payload
    }
  }

  func didReceivePong(_ payload: Bytes) {
    heldControls?.pings.didReceivePong(payload, at: loop.now)
    heldControls?.observer?.didReceivePong(payload)
  }

  /// There may be room for the Pong that waits for it.
  func flushControl() {
    if let payload = heldControls?.unsentPong { sendPong(payload) }
  }

  /// Writes a control frame behind the frames gathered so far; it leaves at the end of the turn at the latest.
  func sendControl(_ opcode: Opcode, _ payload: Bytes) {
    // A transport that has failed says so itself, at the next `hasRoom`.
    try? appendFrame(opcode, isFinal: true, payload)
  }
}
