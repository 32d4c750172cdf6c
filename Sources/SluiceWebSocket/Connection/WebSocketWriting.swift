import SluiceStreams
import SluiceWebSocketProtocol

extension WebSocket {
  /// Payloads up to this many bytes are gathered into one write; longer ones leave as they are.
  static let gatherLimit = 16 << 10

  /// Also false while others wait in `send`, who were first, and while a message is being sent in parts: another one can't begin inside it
  /// (RFC 6455 §5.4).
  /// - Throws: `WebSocketError.closed` when the peer has closed with a code that tells of a failure; `StreamError.closed` after any other Close
  ///   in either direction; otherwise what the connection failed with.
  public func hasRoom() throws -> Bool {
    assertOnLoop()
    if heldControls?.senders != nil, isOpen {
      outgoing.isRoomAwaited = true
      return false
    }
    do { return try hasRoomForMessage() } catch {
      incoming.isEndTold = true
      throw error
    }
  }

  func hasRoomForMessage() throws -> Bool {
    if isInsideMessage, isOpen {
      outgoing.isRoomAwaited = true
      return false
    }
    return try hasRoomForPart()
  }

  func hasRoomForPart() throws -> Bool {
    guard isOpen else { throw writingError }
    if try hasRoomNow() { return true }
    outgoing.isRoomAwaited = true
    watchForStall()
    return false
  }

  /// Why nothing can be sent any more: if it was the peer that closed, what reading fails with.
  private var writingError: any Error {
    @inline(never) get {
      if case .failed(let error)? = machine.life.writingEnd { return error }
      if machine.life.receivedFirst != nil, let error = machine.life.readingEnd?.error { return error }
      return StreamError.closed
    }
  }

  func hasRoomNow() throws -> Bool {
    if let pipeline, !pipeline.hasRoom { return false }
    guard outgoing.gathered.count < options.writeHighWatermark else { return false }
    if !outgoing.isRoomKnown { outgoing.isRoomKnown = try transportHasRoom() }
    return outgoing.isRoomKnown
  }

  private func transportHasRoom() throws -> Bool {
    do { return try transport.hasRoom() } catch {
      didFailToSend(error)
      throw isOpen ? error : writingError
    }
  }

  /// The transport may have failed while nobody waits to write.
  func noteFailureOfTransport() {
    if isOpen { _ = try? transportHasRoom() }
  }

  /// The transport takes nothing more, and may still give what the peer has sent before, its Close too: that is delivered. The connection is lost behind
  /// it, when the transport ends, or when nothing has come for `closeTimeout` although we read.
  private func didFailToSend(_ error: any Error) {
    guard changeLife({ $0.failSending(WebSocketError.connectionLost(underlying: error)) }) else { return }
    Reached.mark("ws.sendingFailed")
    heldControls?.unsentPong = nil
    keepTimes()
  }

  public func push(_ message: consuming Message) throws { try frame(message) }

  /// Sends a short message where that is no more than to write its frame behind those of this turn: there is room, the end of the turn is asked for,
  /// and nobody else is to be asked or told. Calls nobody.
  /// - Returns: whether it was sent, and there is room for another one. If not, nothing was done.
  @inline(never)
  func frameShort(_ message: Message) -> Bool {
    guard outgoing.isFlushScheduled, outgoing.isRoomKnown, isOpen, isPlain, role == .server, !isInsideMessage,
      !machine.isObserved, heldControls?.senders == nil,
      outgoing.gathered.count &+ message.bytes.count < options.writeHighWatermark &- FrameHeader.maxEncodedLength,
      outgoing.gathered.append(short: message)
    else { return false }
    note(.data)
    return true
  }

  /// Sends a message that stays the caller's.
  func frame(_ message: Message) throws {
    guard isOpen else {
      _ = try hasRoom()
      return
    }
    let count = message.bytes.count
    if let pipeline {
      if isInsideMessage { throw WebSocketError.insideMessage }
      pipeline.send(message, for: self)
    } else {
      try gather { try $0.send(message, to: &$1, copyingUpTo: Self.gatherLimit) }
    }
    noteSent(count, endsMessage: true)
  }

  /// Has the machine write something behind what is gathered; it leaves at the end of the turn at the latest.
  /// - Parameter write: Gives a payload that follows what it has written, without a copy. What is written leaves nothing behind if it throws.
  @inline(__always)
  func gather(_ write: (inout WebSocketMachine, inout BytesBuilder) throws -> Bytes?) throws {
    if outgoing.gathered.capacity == 0 { outgoing.gathered = context.takeScratch() }
    flushAtEndOfTurn()
    do {
      if let payload = try write(&machine, &outgoing.gathered) {
        outgoing.isRoomKnown = false
        try transport.push(outgoing.gathered.take())
        try transport.push(payload)
      } else if outgoing.gathered.count >= options.writeHighWatermark {
        outgoing.isRoomKnown = false
        try transport.push(outgoing.gathered.take())
      }
    } catch {
      if outgoing.gathered.isEmpty { context.giveBack(outgoing.gathered.move()) }
      throw error
    }
  }

  public var queuedByteCount: Int {
    let held = heldControls?.heldBehindParts?.byteCount ?? 0
    return outgoing.gathered.count + transport.queuedByteCount + held + (pipeline?.queuedByteCount ?? 0)
  }

  public var deliveredByteCount: Int? { transport.deliveredByteCount }

  public func flush() {
    outgoing.isRoomKnown = false
    // A transport that has failed says so itself, at the next `hasRoom`.
    let isTaken = (try? context.send(outgoing.gathered.move(), to: transport)) ?? false
    outgoing.isRoomKnown = false
    // Who was woken by that for there is room again may have sent something.
    if isFlushScheduled, outgoing.gathered.isEmpty { isFlushScheduled = !context.cancelEndOfTurn(self) }
    if !isTaken || outgoing.mayHoldUntold { publishBufferedAmount() }
    if outgoing.isRoomAwaited { tellOfRoom() }
  }

  func flushAtEndOfTurn() {
    if isFlushScheduled { return }
    isFlushScheduled = true
    context.flushAtEndOfTurn(self)
  }

  /// Wakes the writer that was told that there is no room, if there is.
  func tellOfRoom() {
    outgoing.isRoomAwaited = false
    guard (try? hasRoomForPart()) != false else { return }
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
    guard isOpen else { return }
    if (try? transport.hasRoom()) == true {
      heldControls?.unsentPong = nil
      sendControl(.pong, payload)
    } else {
      Reached.mark("ws.pongWaitsForRoom")
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

  /// Writes a ping or a pong behind the frames gathered so far; it leaves at the end of the turn at the latest.
  func sendControl(_ opcode: Opcode, _ payload: Bytes) {
    gatherSoon { try? $0.send(opcode, payload, to: &$1) }
  }

  /// Has the machine write something, which leaves at the end of the turn at the latest.
  func gatherSoon(_ write: (inout WebSocketMachine, inout BytesBuilder) -> Void) {
    // A transport that has failed says so itself, at the next `hasRoom`.
    try? gather {
      write(&$0, &$1)
      return nil
    }
  }
}
