import SluiceStreams
import SluiceWebSocketProtocol

extension WebSocket {
  /// The connection as a stream of parts of messages, so that a message of any length passes in constant memory.
  ///
  /// Reading gives what has arrived *inside* a frame, without waiting for the frame's or the message's end; `maxMessageSize`
  /// does not apply. Text is checked as it arrives, and a part may end inside a character. Writing sends each part
  /// as a frame. A connection is read by messages or by parts; change over only between two messages.
  ///
  /// ```swift
  /// for try await part in ws.parts { try await file.write(part.bytes) }
  /// ```
  public var parts: WebSocketParts { WebSocketParts(socket: self) }
}

/// See `WebSocket.parts`.
public final class WebSocketParts: PolledDuplexStream {
  public typealias Output = MessagePart
  public typealias Input = MessagePart
  let socket: WebSocket

  init(socket: WebSocket) { self.socket = socket }

  public var loop: any Loop { socket.loop }
  public var endsAsOne: Bool { true }

  public func poll() throws -> Polled<MessagePart> { try socket.pollPart() }
  public func attachReader(_ waker: any Waker) throws { try socket.attachReader(waker) }
  public var hasReader: Bool { socket.hasReader }
  public func detachReader() { socket.detachReader() }
  public func detach(_ element: MessagePart) -> MessagePart { socket.detach(element) }
  public func cancel(_ reason: (any Error)?) { socket.cancel(reason) }

  public func hasRoom() throws -> Bool { try socket.hasRoomForPart() }
  public func push(_ element: consuming MessagePart) throws { try socket.push(element) }
  public var queuedByteCount: Int { socket.queuedByteCount }
  public func flush() { socket.flush() }
  public func attachWriter(_ waker: any Waker) throws { try socket.attachWriter(waker) }
  public func detachWriter() { socket.detachWriter() }
  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    // Nothing waits for the end of a message that its own writer ends so.
    socket.close(as: .normal, "", completion)
  }
  public func closeWhenFlushed(after failure: any Error, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    socket.close(after: failure, completion)
  }
  public var deliveredByteCount: Int? { socket.deliveredByteCount }
  public func abort(_ reason: any Error) { socket.abort(reason) }
}

extension WebSocketParts: EndReasonGiving, EndReasonRepeating {
  package var endReason: (any Sendable)? { get async { await socket.endReason } }
  package func close(repeating reason: any Sendable) async throws { try await socket.close(repeating: reason) }
}

extension WebSocket {
  func pollPart() throws -> Polled<MessagePart> {
    if incoming.isDiscarding {
      incoming.isEndTold = true
      return .end
    }
    incoming.hasBeenRead = true
    incoming.readCount &+= 1
    while let held = incoming.ahead.popFirst() {
      switch held {
      case .message(let message): return .element(MessagePart(message))
      case .end(let end): heed(end)
      case .piece(let piece): if let part = MessagePart(piece) { return .element(part) }
      }
    }
    // Other extensions than compression know whole messages only.
    if pipeline != nil {
      switch try poll() {
      case .element(let message): return .element(MessagePart(message))
      case .pending: return .pending
      case .end: return .end
      }
    }
    while true {
      if try hasReadingEnded() { return .end }
      if let piece = try nextPiece() {
        noteReceived(ReceivedPart(piece))
        guard let part = MessagePart(piece) else { continue }
        return .element(part)
      }
      guard isReading else { continue }
      guard receive() else { return .pending }
    }
  }

  func detach(_ part: MessagePart) -> MessagePart {
    settleInput()
    var detached = part
    detached.bytes = part.bytes.compacted()
    return detached
  }

  /// Sends a part as a frame of its own: the message's kind in the first, continuations behind it (RFC 6455 §5.4).
  /// - Throws: `WebSocketError.invalidText` if the text so far is none; nothing of the part is sent then.
  func push(_ part: consuming MessagePart) throws {
    guard isOpen else {
      _ = try hasRoomForPart()
      return
    }
    let (count, isFinal) = (part.bytes.count, part.isFinal)
    if let pipeline {
      try machine.admit(part)
      pipeline.send(part, for: self)
    } else {
      try gather { try $0.send(part, to: &$1, copyingUpTo: Self.gatherLimit) }
    }
    if isFinal { messageDidEnd() }
    noteSent(count, endsMessage: isFinal)
  }

  /// The last part is pushed: what had to wait for that goes on.
  private func messageDidEnd() {
    pushHeldBroadcasts()
    if outgoing.isRoomAwaited { tellOfRoom() }
  }
}

extension MessagePart {
  fileprivate init(_ message: Message) {
    self.init(kind: message.kind, bytes: message.bytes, isFinal: true)
  }

  /// nil for a piece that says nothing: empty, and not the last.
  fileprivate init?(_ piece: DataPiece) {
    if piece.bytes.isEmpty && !piece.isFinal { return nil }
    self.init(kind: piece.kind, bytes: piece.bytes, isFinal: piece.isFinal)
  }
}
