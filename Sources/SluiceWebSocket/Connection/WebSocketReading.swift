import SluiceStreams
import SluiceWebSocketProtocol

extension WebSocket: ServedStream {
  @usableFromInline
  package func willWaitWhileDry() { note(.starved) }

  public var isDry: Bool {
    guard hasBeenRead, !isDiscarding, ahead.isEmpty, coding.isPlain, case .open = readState else { return false }
    return decoder.isBetweenMessages && !decoder.hasInput() && transport.isDry
  }

  /// The next message; nil when the peer has closed well.
  public func poll() throws -> Polled<Message> {
    hasBeenRead = true
    while true {
      if isDiscarding {
        isEndTold = true
        return .end
      }
      if !ahead.isEmpty {
        guard let message = try nextAhead() else { continue }
        return .element(message)
      }
      if case .extensions(let pipeline) = coding, let message = pipeline.popDecoded() {
        noteReceived(message.bytes.count, endsMessage: true)
        return .element(message)
      }
      if try hasReadingEnded() { return .end }
      if coding.isPlain, decoder.isBetweenMessages, !decoder.hasInput() {
        if let received = receiveWholeMessage() { return received }
        guard case .open = readState else { continue }
      }
      if let message = try nextMessage() { return .element(message) }
      guard case .open = readState else { continue }
      guard receive() else { return .pending }
    }
  }

  /// Whether the end of the reading has come, which the reader is told with this.
  /// - Throws: what it has failed with.
  func hasReadingEnded() throws -> Bool {
    switch readState {
    case .open: return false
    case .closed:
      isEndTold = true
      return true
    case .failed(let error):
      isEndTold = true
      throw error
    }
  }

  /// The message that what comes begins with, if that is a whole small one, as most are: it need not pass the decoder, which gets the rest.
  /// - Returns: nil when the decoder, or the end, is to tell.
  private func receiveWholeMessage() -> Polled<Message>? {
    var message: Message?
    switch receiveChunk(lendingTo: { takeMessage(from: $0, of: nil, &message) }) {
    case .used: break
    case .chunk(let chunk):
      let count = message == nil ? takeMessage(from: chunk.span, of: chunk, &message) : 0
      if count < chunk.count { feed(chunk.dropFirst(count)) }
    case .pending: return .pending
    case .end: return nil
    }
    guard let message = message.take() else { return nil }
    // The application hears of it when nothing is lent any more.
    noteReceived(message.bytes.count, endsMessage: true)
    return .element(message)
  }

  /// Calls nothing of the application's: `input` may be lent.
  /// - Parameter chunk: What `input` is the content of, if it may be kept.
  /// - Returns: how many bytes are in the message that was taken. A text that is none stays: the decoder tells it.
  private func takeMessage(from input: Span<UInt8>, of chunk: Bytes?, _ message: inout Message?) -> Int {
    let limit = Swift.min(Self.gatherLimit, options.maxMessageSize)
    guard let frame = WholeFrame(input, at: 0, isMasked: role == .server, limit: limit) else { return 0 }
    let bytes: Bytes
    if let key = frame.maskingKey {
      var unmasked = context.takeMemory(forMessageOf: frame.payload.count)
      unmasked.append(input.extracting(frame.payload), masking: key)
      bytes = unmasked.take()
    } else {
      guard let chunk else { return 0 }
      bytes = chunk.prefix(frame.payload.upperBound).dropFirst(frame.payload.lowerBound)
    }
    guard frame.kind == .binary || UTF8Validator.isValid(bytes.span) else { return 0 }
    message = Message(kind: frame.kind, bytes: bytes)
    return frame.payload.upperBound
  }

  /// Puts together what was read ahead.
  /// - Returns: nil when the rest of the message was not read yet.
  private func nextAhead() throws -> Message? {
    while let part = ahead.popFirst() {
      switch part {
      case .message(let message): return message
      case .end(let held): heed(held)
      case .piece(let piece):
        do { if let message = try assembler.append(piece) { return message } } catch {
          if let held = ahead.popEnd() { loop.cancelTimer(held.limit) }
          ahead.removeAll()
          decoder.fail(error)
          failProtocol(error)
          // Too late to tell the peer, if it has closed behind it.
          if case .closed = readState { readState = .failed(WebSocketError.protocolViolation(error)) }
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
      switch coding {
      case .plain: return try nextPlainMessage()
      case .extensions(let pipeline): return try nextMessage(from: pipeline)
      case .deflate, .hixie: break
      }
      while let piece = try nextPiece() {
        let part = ReceivedPart(piece)
        let message = try assembler.append(piece)
        noteReceived(part)
        if let message { return message }
      }
      return nil
    } catch let error as WebSocketProtocolError {
      try failReading(error)
      return nil
    }
  }

  /// The same where nothing stands between frames and messages: a message that comes in parts is unmasked to where it is gathered.
  private func nextPlainMessage() throws(WebSocketProtocolError) -> Message? {
    while let event = try decoder.next(assembling: &assembler) {
      switch event {
      case .message(let message):
        noteReceived(message.bytes.count, endsMessage: true)
        return message
      // No reserved bit was agreed upon, so that none passes the decoder.
      case .encoded: continue
      case .ping(let payload): answerPing(payload)
      case .pong(let payload): didReceivePong(payload)
      case .close(let code, let reason):
        didReceiveClose(code, reason)
        return nil
      }
    }
    return nil
  }

  /// Decodes until there is a part of a message, acting on control frames on the way. The caller tells of it, by `noteReceived`, once it has
  /// its place: who hears of it may read on.
  /// - Returns: nil when the decoder needs more bytes, or the reading has ended.
  func nextPiece() throws -> DataPiece? {
    do {
      if case .deflate(let session) = coding, let piece = try session.nextInflated() { return piece }
      while let event = try nextEvent() {
        switch event {
        case .data(let piece):
          guard !piece.reserved.isEmpty, case .deflate(let session) = coding else { return piece }
          note(.data)
          session.feed(piece)
          if let inflated = try session.nextInflated() { return inflated }
        case .ping(let payload): answerPing(payload)
        case .pong(let payload): didReceivePong(payload)
        case .close(let code, let reason):
          if isReadingAhead && holdsEnd {
            hold(.close(code, reason))
          } else {
            afterReceived { self.didReceiveClose(code, reason) }
          }
          return nil
        }
      }
      return nil
    } catch {
      try failReading(error)
      return nil
    }
  }

  /// - Throws: the failure, unless messages that came before it are still to be decoded.
  private func failReading(_ error: WebSocketProtocolError) throws {
    decoder.fail(error)
    if isReadingAhead && holdsEnd { return hold(.violation(error)) }
    failProtocol(error)
    if case .failed(let failure) = readState { throw failure }
  }

  private func nextEvent() throws(WebSocketProtocolError) -> FrameEvent? {
    if case .hixie(let framing) = coding { return try framing.decoder.next() }
    return try decoder.next()
  }

  func feed(_ bytes: consuming Bytes) {
    if case .hixie(let framing) = coding { framing.decoder.feed(bytes) } else { decoder.feed(bytes) }
  }

  /// What is not decoded yet may stay beyond this turn of the loop, and must not hold a buffer of the loop's.
  func settleInput() {
    if case .hixie(let framing) = coding { framing.decoder.settleInput() } else { decoder.settleInput() }
  }

  /// Feeds the decoder with what the transport has.
  /// - Returns: false if it has nothing now, or an extension is to catch up first.
  func receive() -> Bool {
    if case .extensions(let pipeline) = coding, !pipeline.wantsMore || decoder.isClosed { return false }
    switch receiveChunk(lendingTo: { _ in 0 }) {
    case .chunk(let chunk): feed(chunk)
    case .pending: return false
    case .used, .end: break
    }
    guard case .extensions(let pipeline) = coding else { return true }
    return !pipeline.isReceiving
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
      case .end: afterReceived { self.transportDidEnd() }
      }
    } catch {
      afterReceived { self.didLoseConnection(error) }
    }
    return .end
  }

  private func transportDidEnd() {
    // hixie-75 has no other way to close.
    if case .hixie(let framing) = coding, framing.version == .hixie75, !framing.decoder.isInsideMessage {
      return didReceiveClose(nil, "")
    }
    didLoseConnection(nil)
  }

  @usableFromInline
  package func withReader<R>(_ body: (inout ReaderSlot) throws -> R) rethrows -> R { try body(&reader) }

  public func attachReader(_ waker: any Waker) throws {
    try reader.attach(waker)
    hasBeenRead = true
  }

  public func detachReader() {
    reader.detach()
    // A reader that has only paused would have to take out again what is read ahead now; the next bytes come soon enough,
    // unless something in the ones that are here is waited for.
    if isAnswerAwaited { readAheadIfNeeded() }
  }

  /// Whether a Pong or Close of the peer is waited for.
  private var isAnswerAwaited: Bool { isPongAwaited || isAwaitingClose || watch?.isAwaitingLife == true }

  private var isPongAwaited: Bool { heldControls?.pings.isWaiting == true }

  /// Whether the end waits for the reader to come to it, so that what it reads before can still be answered. Whoever has never
  /// read, and has nothing to read, is told at once.
  private var holdsEnd: Bool {
    if isDiscarding || isPongAwaited || isAwaitingClose { return false }
    if case .extensions = coding { return false }
    return hasBeenRead || !ahead.isEmpty
  }

  /// Keeps the end for the reader, for as long as we may take to answer a Close.
  private func hold(_ end: ReadAhead.End) {
    let limit = loop.schedule(after: options.closeTimeout) { [weak self] in self?.heedHeldEnd() }
    ahead.append(.end(ReadAhead.HeldEnd(end: end, limit: limit)))
  }

  private func heedHeldEnd() {
    if let held = ahead.popEnd() { heed(held) }
  }

  func heed(_ held: ReadAhead.HeldEnd) {
    loop.cancelTimer(held.limit)
    // What has failed meanwhile has failed.
    guard case .open = readState else { return }
    switch held.end {
    case .close(let code, let reason): didReceiveClose(code, reason)
    case .violation(let error): failProtocol(error)
    }
  }

  public func detach(_ element: Message) -> Message {
    // What comes behind it may be read in another turn of the loop.
    settleInput()
    return element.compacted()
  }

  /// Nobody will read any more: closes, with 1011 if there is a reason, and drops what still comes.
  public func cancel(_ reason: (any Error)?) {
    loop.perform { self.cancelOnLoop(reason) }
  }

  private func cancelOnLoop(_ reason: (any Error)?) {
    isDiscarding = true
    let held = ahead.popEnd()
    ahead.removeAll()
    if let held { heed(held) }
    sendClose(reason == nil ? .normal : .internalError, "")
    tellReader()
    readAheadIfNeeded()
  }

  /// While nobody reads, what comes is decoded, up to the watermark: pings are to be answered, and a Pong or Close found.
  func readAheadIfNeeded() {
    guard !hasReader || isDiscarding else { return }
    // Extensions keep what they have decoded until it is asked for.
    if case .extensions = coding, !isDiscarding, !isAnswerAwaited { return }
    if ahead.hasEnd {
      if !holdsEnd { heedHeldEnd() }
      return
    }
    isReadingAhead = true
    defer { isReadingAhead = false }
    while case .open = readState, isDiscarding || ahead.byteCount < options.writeHighWatermark {
      let part: ReadAhead.Part?
      // A failure is kept in `readState`, for the next read.
      do { part = try nextPart() } catch { return }
      if let part {
        let received = ReceivedPart(part)
        if !isDiscarding { ahead.append(part) }
        noteReceived(received)
      } else if ahead.hasEnd {
        return
      } else if case .open = readState, !receive() {
        return
      }
    }
  }

  private func nextPart() throws -> ReadAhead.Part? {
    if case .extensions(let pipeline) = coding { return try nextMessage(from: pipeline).map { .message(detach($0)) } }
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
    if isWatched { activity.remove(.starved) }
    if case .lingering = closing { return linger() }
    if hasReader, !isDiscarding { tellReader() } else { readAheadIfNeeded() }
    settleInput()
  }

  /// For the transport: it has room, or has failed.
  public func wakeWriter() {
    flushControl()
    isRoomAwaited = false
    heldControls?.roomAwaitedSince = nil
    writer.wake()
  }
}
