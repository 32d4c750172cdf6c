import SluiceStreams
import SluiceWebSocketProtocol

extension WebSocket {
  /// The connection as a stream of parts of messages, so that a message of any length passes in constant memory.
  ///
  /// Reading gives what has arrived *inside* a frame, without waiting for the frame's or the message's end; `maxMessageSize`
  /// does not apply. Text is checked as it arrives, and a fragment may end inside a character. Writing sends each fragment
  /// as a frame. A connection is read by messages or by fragments; change over only between two messages.
  ///
  /// ```swift
  /// for try await fragment in ws.fragments { try await file.write(fragment.bytes) }
  /// ```
  public var fragments: WebSocketFragments { WebSocketFragments(socket: self) }
}

/// See `WebSocket.fragments`.
public struct WebSocketFragments: PolledDuplexStream {
  public typealias Output = Fragment
  public typealias Input = Fragment
  let socket: WebSocket

  public var loop: any Loop { socket.loop }
  public var endsAsOne: Bool { true }

  public func poll() throws -> Polled<Fragment> { try socket.pollFragment() }
  public func attachReader(_ waker: any Waker) throws { try socket.attachReader(waker) }
  public var hasReader: Bool { socket.hasReader }
  public func detachReader() { socket.detachReader() }
  public func detach(_ element: Fragment) -> Fragment { socket.detach(element) }
  public func cancel(_ reason: (any Error)?) { socket.cancel(reason) }

  public func hasRoom() throws -> Bool { try socket.hasRoomForFragment() }
  public func push(_ element: consuming Fragment) throws { try socket.push(element) }
  public var queuedByteCount: Int { socket.queuedByteCount }
  public func flush() { socket.flush() }
  public func attachWriter(_ waker: any Waker) throws { try socket.attachWriter(waker) }
  public func detachWriter() { socket.detachWriter() }
  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    socket.closeWhenFlushed(completion)
  }
  public func closeWhenFlushed(after failure: any Error, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    socket.closeWhenFlushed(after: failure, completion)
  }
  public var deliveredByteCount: Int? { socket.deliveredByteCount }
  public func abort(_ reason: any Error) { socket.abort(reason) }
}

extension WebSocketFragments: EndReasonGiving, EndReasonRepeating {
  package var endReason: (any Sendable)? { get async { await socket.endReason } }
  package func close(repeating reason: any Sendable) async throws { try await socket.close(repeating: reason) }
}

extension WebSocket {
  func pollFragment() throws -> Polled<Fragment> {
    if incoming.isDiscarding {
      incoming.isEndTold = true
      return .end
    }
    incoming.hasBeenRead = true
    while let part = incoming.ahead.popFirst() {
      switch part {
      case .message(let message): return .element(Fragment(message))
      case .end(let held): heed(held)
      case .piece(let piece): if let fragment = Fragment(piece) { return .element(fragment) }
      }
    }
    // Other extensions than compression know whole messages only.
    if pipeline != nil {
      switch try poll() {
      case .element(let message): return .element(Fragment(message))
      case .pending: return .pending
      case .end: return .end
      }
    }
    while true {
      if try hasReadingEnded() { return .end }
      if let piece = try nextPiece() {
        noteReceived(ReceivedPart(piece))
        guard let fragment = Fragment(piece) else { continue }
        return .element(fragment)
      }
      guard isReading else { continue }
      guard receive() else { return .pending }
    }
  }

  func detach(_ fragment: Fragment) -> Fragment {
    settleInput()
    var detached = fragment
    detached.bytes = fragment.bytes.compacted()
    return detached
  }

  /// Sends a fragment as a frame of its own: the message's kind in the first, continuations behind it (RFC 6455 §5.4).
  /// - Throws: `WebSocketError.invalidText` if the text so far is none; nothing of the fragment is sent then.
  func push(_ fragment: consuming Fragment) throws {
    guard isOpen else {
      _ = try hasRoomForFragment()
      return
    }
    let (count, isFinal) = (fragment.bytes.count, fragment.isFinal)
    if let pipeline {
      try machine.admit(fragment)
      pipeline.send(fragment, for: self)
    } else {
      beginGathering()
      do {
        try didGather(followedBy: machine.send(fragment, to: &outgoing.gathered, copyingUpTo: Self.gatherLimit))
      } catch {
        didNotGather()
        throw error
      }
    }
    if isFinal { messageDidEnd() }
    noteSent(count, endsMessage: isFinal)
  }

  /// The last fragment is pushed: what had to wait for that goes on.
  private func messageDidEnd() {
    pushHeldBroadcasts()
    if outgoing.isRoomAwaited { tellOfRoom() }
  }
}

extension Fragment {
  fileprivate init(_ message: Message) {
    self.init(kind: message.kind, bytes: message.bytes, isFinal: true)
  }

  /// nil for a piece that says nothing: empty, and not the last.
  fileprivate init?(_ piece: DataPiece) {
    if piece.bytes.isEmpty && !piece.isFinal { return nil }
    self.init(kind: piece.kind, bytes: piece.bytes, isFinal: piece.isFinal)
  }
}
