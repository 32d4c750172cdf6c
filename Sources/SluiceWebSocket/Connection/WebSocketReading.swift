import SluiceStreams
import SluiceWebSocketProtocol

extension WebSocket {
  /// The next message; nil when the peer has closed well.
  public func poll() throws -> Polled<Message> {
    if let message = inbox.popFirst() {
      inboxBytes -= message.bytes.count + 1
      return .element(message)
    }
    while true {
      switch readState {
      case .open: break
      case .closed: return .end
      case .failed(let error): throw error
      }
      if let message = try nextMessage() { return .element(message) }
      guard case .open = readState else { continue }
      guard receive() else { return .pending }
    }
  }

  /// Decodes until a message is whole, acting on control frames on the way.
  /// - Returns: nil when the decoder needs more bytes, or the reading has ended.
  func nextMessage() throws -> Message? {
    do {
      while let piece = try nextPiece() {
        if let message = try assembler.append(piece) { return message }
      }
      return nil
    } catch let error as WebSocketProtocolError {
      failProtocol(error)
      throw WebSocketError.protocolViolation(error)
    }
  }

  /// Decodes until there is a part of a message, acting on control frames on the way.
  /// - Returns: nil when the decoder needs more bytes, or the reading has ended.
  func nextPiece() throws -> DataPiece? {
    do {
      while let event = try decoder.next() {
        switch event {
        case .data(let piece): return piece
        case .ping(let payload): answerPing(payload)
        case .pong(let payload): pings.didReceivePong(payload, at: loop.now)
        case .close(let code, let reason):
          didReceiveClose(code, reason)
          return nil
        }
      }
      return nil
    } catch {
      failProtocol(error)
      throw WebSocketError.protocolViolation(error)
    }
  }

  /// Feeds the decoder with what the transport has.
  /// - Returns: false if it has nothing now.
  func receive() -> Bool {
    do {
      switch try transport.poll() {
      case .element(let chunk): decoder.feed(chunk)
      case .pending: return false
      case .end: didLoseConnection(nil)
      }
    } catch {
      didLoseConnection(error)
    }
    return true
  }

  public func attachReader(_ waker: any Waker) throws {
    guard reader == nil else { throw StreamError.concurrentRead }
    reader = waker
  }

  public func detachReader() {
    reader = nil
    readAheadIfNeeded()
  }

  public func detach(_ element: Message) -> Message {
    element.bytes.isWasteful ? Message(kind: element.kind, bytes: element.bytes.compacted()) : element
  }

  /// Nobody will read any more: closes, with 1011 if there is a reason, and drops what still comes.
  public func cancel(_ reason: (any Error)?) {
    loop.perform { self.cancelOnLoop(reason) }
  }

  private func cancelOnLoop(_ reason: (any Error)?) {
    isDiscarding = true
    inbox.removeAll()
    inboxBytes = 0
    sendClose(reason == nil ? .normal : .internalError, "")
    readAheadIfNeeded()
  }

  /// The transport has something to read, or has ended.
  func transportIsReadable() {
    if case .lingering = closing { return linger() }
    if let reader { reader.wake() } else { readAheadIfNeeded() }
  }

  /// The transport has room, or has failed.
  func transportIsWritable() {
    if unsentPong != nil { flushControl() }
    if let writer { writer.wake() }
  }

  /// While a Pong or Close is awaited and nobody reads, messages are decoded into the inbox, up to the watermark.
  func readAheadIfNeeded() {
    guard reader == nil, isDiscarding || pings.isWaiting || isAwaitingClose else { return }
    while case .open = readState, isDiscarding || inboxBytes < options.writeHighWatermark {
      let message: Message?
      // A failure is kept in `readState`, for the next read.
      do { message = try nextMessage() } catch { return }
      if let message {
        if isDiscarding { continue }
        inboxBytes += message.bytes.count + 1
        inbox.append(detach(message))
      } else if case .open = readState, !receive() {
        return
      }
    }
  }

  private var isAwaitingClose: Bool {
    if case .waiting = closing { true } else { false }
  }
}
