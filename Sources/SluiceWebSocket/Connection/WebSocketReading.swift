import SluiceStreams
import SluiceWebSocketProtocol

extension WebSocket: ServedStream {
  @usableFromInline
  package func willWaitWhileDry() { note(.starved) }

  public var isDry: Bool {
    guard incoming.hasBeenRead, !incoming.isDiscarding, incoming.ahead.isEmpty, isPlain, isReading else { return false }
    return incoming.bytes.isEmpty && transport.isDry
  }

  /// The next of the messages that came together: what is decoded without asking for anything first.
  /// - Returns: nil when that is for `poll` to say.
  @inline(__always)
  func takeBuffered() throws -> Message? {
    guard !incoming.bytes.isEmpty, isPlain, !machine.isObserved, isReading, incoming.hasBeenRead,
      !incoming.isDiscarding, incoming.ahead.isEmpty
    else { return nil }
    incoming.readCount &+= 1
    guard let message = try decodeBuffered() else { return nil }
    note(.data)
    return message
  }

  @usableFromInline
  package func takeReady() throws -> Message? {
    guard !incoming.bytes.isEmpty, isOnLoop, !reader.isTaken, let message = try takeBuffered() else { return nil }
    if incoming.isUnsettled { settleInput() }
    return message.bytes.isWasteful ? message.compacted() : message
  }

  /// Decodes what was read before, as far as the first message, or control frame, on which it acts.
  @inline(__always)
  private func decodeBuffered() throws -> Message? {
    if let message = machine.nextShortMessage(in: &incoming.bytes) { return message }
    return try decodeAnyBuffered()
  }

  @inline(never)
  private func decodeAnyBuffered() throws -> Message? {
    var message: Message?
    do {
      if case .control = try machine.nextMessage(in: &incoming.bytes, &message) { try actOnControl() }
    } catch {
      try failReading(error)
    }
    return message
  }

  /// The next message; nil when the peer has closed well.
  public func poll() throws -> Polled<Message> {
    assertOnLoop()
    incoming.hasBeenRead = true
    incoming.readCount &+= 1
    while true {
      if incoming.isDiscarding {
        incoming.isEndTold = true
        return .end
      }
      if !incoming.ahead.isEmpty {
        guard let message = try nextAhead() else { continue }
        return .element(message)
      }
      if let pipeline, let message = pipeline.popDecoded() {
        noteReceived(message.bytes.count, endsMessage: true)
        return .element(message)
      }
      if try hasReadingEnded() { return .end }
      if isPlain {
        if let polled = try pollPlain() { return polled }
        continue
      }
      if let message = try nextMessage() { return .element(message) }
      guard isReading else { continue }
      guard receive() else { return .pending }
    }
  }

  /// Whether the end of the reading has come, which the reader is told with this.
  /// - Throws: what it has failed with.
  func hasReadingEnded() throws -> Bool {
    if isReading { return false }
    incoming.isEndTold = true
    if let error = machine.life.readingEnd?.error { throw error }
    return true
  }

  /// Where nothing stands between frames and messages, these are unmasked straight from what the transport lends.
  /// - Returns: nil when the machine, or the end, has more to tell.
  private func pollPlain() throws -> Polled<Message>? {
    var message: Message?
    if incoming.bytes.isEmpty {
      do {
        var stop = DecoderStop.nothing
        switch try receiveLent(&message, &stop) {
        case .used: break
        case .chunk(let chunk): feed(chunk)
        case .pending: return .pending
        case .end: return nil
        }
        if case .control = stop { try actOnControl() }
      } catch {
        try failReading(error)
        return nil
      }
    } else {
      message = try decodeBuffered()
    }
    // The application hears of it when nothing is lent any more.
    guard let message else { return nil }
    noteReceived(message.bytes.count, endsMessage: true)
    return .element(message)
  }

  /// Decodes what the transport has, as far as the first message or control frame. What is not masked is left, for a slice of it to be made.
  private func receiveLent(
    _ message: inout Message?, _ stop: inout DecoderStop
  ) throws(WebSocketProtocolError) -> Received {
    var failure: WebSocketProtocolError?
    let isMasked = role == .server
    let received = receiveChunk { input in
      guard isMasked else { return 0 }
      var used = 0
      do throws(WebSocketProtocolError) {
        stop = try machine.nextMessage(in: input, from: &used, &message)
      } catch {
        failure = error
      }
      return used
    }
    if let failure { throw failure }
    return received
  }

  /// Puts together what was read ahead.
  /// - Returns: nil when the rest of the message was not read yet.
  private func nextAhead() throws -> Message? {
    while let part = incoming.ahead.popFirst() {
      switch part {
      case .message(let message): return message
      case .end(let held): heed(held)
      case .piece(let piece):
        do { if let message = try machine.assemble(piece) { return message } } catch {
          if let held = incoming.ahead.popEnd() { loop.cancelTimer(held.limit) }
          incoming.ahead.removeAll()
          failProtocol(error)
          // Too late to tell the peer, if it has closed behind it.
          changeLife { $0.failReading(WebSocketError.protocolViolation(error)) }
          return nil
        }
      }
    }
    return nil
  }

  /// Decodes until a message is whole, acting on control frames on the way.
  /// - Returns: nil when the decoder needs more bytes, or the reading has ended.
  func nextMessage() throws -> Message? {
    do {
      if let pipeline { return try nextMessage(from: pipeline) }
      while let piece = try nextPiece() {
        let part = ReceivedPart(piece)
        let message = try machine.assemble(piece)
        noteReceived(part)
        if let message { return message }
      }
      return nil
    } catch let error as WebSocketProtocolError {
      try failReading(error)
      return nil
    }
  }

  /// Decodes until there is a part of a message, acting on control frames on the way. The caller tells of it, by `noteReceived`, once it has
  /// its place: who hears of it may read on.
  /// - Returns: nil when the decoder needs more bytes, or the reading has ended.
  func nextPiece() throws -> DataPiece? {
    do {
      var piece: DataPiece?
      while true {
        switch try machine.nextPiece(in: &incoming.bytes, &piece) {
        case .nothing: return nil
        case .element: return piece
        case .control: try actOnControl()
        }
      }
    } catch {
      try failReading(error)
      return nil
    }
  }

  /// Acts on the control frame at which the machine has stopped.
  private func actOnControl() throws(WebSocketProtocolError) {
    switch try machine.takeControl() {
    case .ping(let payload): answerPing(payload)
    case .pong(let payload): didReceivePong(payload)
    case .close(let code, let reason):
      incoming.bytes = Bytes()
      if incoming.isReadingAhead && holdsEnd {
        hold(.close(code, reason))
      } else {
        afterReceived { self.didReceiveClose(code, reason) }
      }
    }
  }

  /// - Throws: the failure, unless messages that came before it are still to be decoded.
  private func failReading(_ error: WebSocketProtocolError) throws {
    incoming.bytes = Bytes()
    Reached.mark("ws.violation")
    if incoming.isReadingAhead && holdsEnd { return hold(.violation(error)) }
    failProtocol(error)
    if let failure = machine.life.readingEnd?.error { throw failure }
  }

  func feed(_ bytes: consuming Bytes) {
    // An empty slice would hold its whole buffer.
    if bytes.isEmpty { return }
    incoming.bytes = incoming.bytes.followed(by: bytes)
    incoming.isUnsettled = true
  }

  /// What is not decoded yet may stay beyond this turn of the loop, and must not hold a buffer of the loop's.
  func settleInput() {
    guard incoming.isUnsettled else { return }
    incoming.isUnsettled = false
    if !incoming.bytes.isEmpty { incoming.bytes = incoming.bytes.compacted() }
  }

  /// Feeds the decoder with what the transport has.
  /// - Returns: false if it has nothing now, or an extension is to catch up first.
  func receive() -> Bool {
    if let pipeline, !pipeline.wantsMore || machine.hasDecodedClose { return false }
    switch receiveChunk(lendingTo: { _ in 0 }) {
    case .chunk(let chunk): feed(chunk)
    case .pending: return false
    case .used, .end: break
    }
    return pipeline?.isReceiving != true
  }

  enum Received {
    /// All that there was.
    case used(isDry: Bool)
    /// What was not used.
    case chunk(Bytes)
    case pending
    /// The transport has ended or failed, which has had its effect.
    case end
  }

  func receiveChunk(lendingTo use: (Span<UInt8>) -> Int) -> Received {
    do {
      switch try transport.poll(lendingTo: use) {
      case .used(let isDry):
        note(.received)
        return .used(isDry: isDry)
      case .element(let chunk):
        note(.received)
        return .chunk(chunk)
      case .pending:
        note(.starved)
        return .pending
      case .end: afterReceived { self.transportDidEnd(nil) }
      }
    } catch let error as any ReadingEndError where error.endsReadingOnly {
      afterReceived { self.transportDidEnd(error) }
    } catch {
      afterReceived { self.didLoseConnection(error) }
    }
    return .end
  }

  /// - Parameter error: What the transport has to say of that.
  private func transportDidEnd(_ error: (any Error)?) {
    // hixie-75 has no other way to close.
    if error == nil, machine.mayEnd { return didReceiveClose(nil, "") }
    if incoming.isReadingAhead && holdsEnd { return hold(.transportEnd(error)) }
    didEndWithoutClose(error)
  }

  @usableFromInline
  package func withReader<R>(_ body: (inout ReaderSlot) throws -> R) rethrows -> R { try body(&reader) }

  public func attachReader(_ waker: any Waker) throws {
    try reader.attach(waker)
    incoming.hasBeenRead = true
  }

  public func detachReader() {
    reader.detach()
    // A reader that has only paused would have to take out again what is read ahead now; the next bytes come soon enough,
    // unless something in the ones that are here is waited for.
    if isAnswerAwaited { readAheadIfNeeded() }
  }

  /// Whether a Pong or Close of the peer is waited for.
  private var isAnswerAwaited: Bool { isPongAwaited || isAwaitingClose || machine.isAwaitingLife }

  private var isPongAwaited: Bool { heldControls?.pings.isWaiting == true }

  /// Whether the end waits for the reader to come to it, so that what it reads before can still be answered. Whoever has never
  /// read, and has nothing to read, is told at once.
  private var holdsEnd: Bool {
    if incoming.isDiscarding || isPongAwaited || isAwaitingClose { return false }
    if pipeline != nil { return false }
    return incoming.hasBeenRead || !incoming.ahead.isEmpty
  }

  /// Keeps the end for the reader.
  private func hold(_ end: ReadAhead.End) {
    Reached.mark("ws.endHeldForReader")
    keep(end)
  }

  /// Until the reader has not read for a while, in which the peer heard nothing of us either.
  private func keep(_ end: ReadAhead.End) {
    let count = incoming.readCount
    let limit = loop.schedule(after: patience) { [weak self] in self?.heedHeldEnd(ifNotReadSince: count) }
    incoming.ahead.append(.end(ReadAhead.HeldEnd(end: end, limit: limit)))
  }

  /// For how long a reader may be busy before the peer's end has its effect: half of the time that we would give the peer to answer a Close, so that
  /// one which gives us the same gets its answer.
  private var patience: Duration { options.closeTimeout / 2 }

  private func heedHeldEnd(ifNotReadSince count: UInt32) {
    guard let held = incoming.ahead.popEnd() else { return }
    if incoming.readCount == count { heed(held) } else { keep(held.end) }
  }

  private func heedHeldEnd() {
    if let held = incoming.ahead.popEnd() { heed(held) }
  }

  func heed(_ held: ReadAhead.HeldEnd) {
    loop.cancelTimer(held.limit)
    Reached.mark("ws.heldEndHeeded")
    // What has failed meanwhile has failed.
    guard isReading else { return }
    switch held.end {
    case .close(let code, let reason): didReceiveClose(code, reason)
    case .violation(let error): failProtocol(error)
    case .transportEnd(let error): didEndWithoutClose(error)
    }
  }

  public func detach(_ element: Message) -> Message {
    // What comes behind it may be read in another turn of the loop.
    settleInput()
    if !incoming.isLookDue { lookForPause() }
    return element.compacted()
  }

  /// Nobody will read any more: closes, with 1011 if there is a reason, and drops what still comes.
  public func cancel(_ reason: (any Error)?) {
    loop.perform { self.cancelOnLoop(reason) }
  }

  private func cancelOnLoop(_ reason: (any Error)?) {
    incoming.isDiscarding = true
    Reached.mark("ws.cancelledReading")
    let held = incoming.ahead.popEnd()
    incoming.ahead.removeAll()
    if let held { heed(held) }
    sendClose(reason == nil ? .normal : .internalError, "")
    tellReader()
    readAheadIfNeeded()
  }

  /// While nobody reads, what comes is decoded, up to the watermark: pings are to be answered, and a Pong or Close found.
  func readAheadIfNeeded() {
    guard !hasReader || incoming.isDiscarding else { return }
    // Extensions keep what they have decoded until it is asked for.
    if pipeline != nil, !incoming.isDiscarding, !isAnswerAwaited { return foreseeEnd() }
    if incoming.ahead.hasEnd {
      if !holdsEnd { heedHeldEnd() }
      return
    }
    incoming.isReadingAhead = true
    defer { incoming.isReadingAhead = false }
    while isReading, incoming.isDiscarding || incoming.ahead.byteCount < options.writeHighWatermark {
      let part: ReadAhead.Part?
      // A failure is kept for the next read.
      do { part = try nextPart() } catch { return }
      if let part {
        let received = ReceivedPart(part)
        Reached.mark("ws.readAhead")
        if !incoming.isDiscarding { incoming.ahead.append(part) }
        noteReceived(received)
      } else if incoming.ahead.hasEnd {
        return
      } else if isReading, !receive() {
        return
      }
    }
    foreseeEnd()
  }

  /// A task was given a message. If it now does something else, and there is more, a Close or a Ping may be in it, of which nothing else would tell.
  private func lookForPause() {
    if incoming.bytes.isEmpty, transport.isDry { return }
    incoming.isLookDue = true
    // An object that is weakly referred to is slower to count; a client is so anyway.
    let server = role == .server ? self : nil
    _ = loop.schedule(after: Self.pauseLook) { [weak client = role == .client ? self : nil] in
      (server ?? client)?.readAheadOfPause()
    }
  }

  /// After which time a reader that has not come back is read ahead of.
  private static let pauseLook = Duration.seconds(1)

  private func readAheadOfPause() {
    incoming.isLookDue = false
    guard isReading, !hasReader else { return }
    Reached.mark("ws.pauseLookedAt")
    readAheadIfNeeded()
    settleInput()
  }

  /// No more is read, because nobody asks for it. If the peer is known to have ended, then that waits for a reader that reads within `stallTimeout`, or
  /// its default where peers may stall for ever: a connection is over with its peer, and not when somebody finds the time to read. Longer than an end that
  /// was read waits: with this one, what lies before it is lost.
  package func foreseeEnd() {
    guard isReading, heldControls?.foreseenEnd == nil, isEndKnown else { return }
    Reached.mark("ws.endForeseen")
    let count = incoming.readCount
    let limit = options.stallTimeout ?? WebSocketOptions.defaultStallTimeout
    controls.foreseenEnd = loop.schedule(after: limit) { self.heedForeseenEnd(ifNotReadSince: count) }
  }

  private var isEndKnown: Bool {
    if case .sendingFailed = machine.life { return true }
    return (transport as? any PeerEndWatching)?.hasPeerEnded == true
  }

  private func heedForeseenEnd(ifNotReadSince count: UInt32) {
    heldControls?.foreseenEnd = nil
    guard isReading else { return }
    // A pipe reads on when its sink has room, for which that has a limit of its own.
    let isPiped = hasReader && heldControls?.observer == nil
    guard incoming.readCount == count, !isPiped else {
      readAheadIfNeeded()
      return foreseeEnd()
    }
    if incoming.ahead.hasEnd { return }
    Reached.mark("ws.foreseenEndHeeded")
    didEndWithoutClose(nil)
  }

  private func nextPart() throws -> ReadAhead.Part? {
    if let pipeline { return try nextMessage(from: pipeline).map { .message(detach($0)) } }
    guard var piece = try nextPiece() else { return nil }
    piece.bytes = piece.bytes.compacted()
    return .piece(piece)
  }

  private var isAwaitingClose: Bool {
    if case .waiting = closing { true } else { false }
  }
}

// MARK: what the transport tells

extension WebSocket: Waker {
  /// For the transport: it has something to read, or has ended.
  public func wakeReader() {
    if machine.isWatched { machine.noteUnread() }
    if case .lingering = closing { return linger() }
    if hasReader, !incoming.isDiscarding { tellReader() } else { readAheadIfNeeded() }
    settleInput()
  }

  /// For the transport: it has room, or has failed.
  public func wakeWriter() {
    outgoing.isRoomKnown = false
    noteFailureOfTransport()
    flushControl()
    outgoing.isRoomAwaited = false
    heldControls?.roomAwaitedSince = nil
    writer.wake()
  }
}
