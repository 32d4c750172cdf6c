import SluiceStreams
import SluiceWebSocketProtocol

/// One sink for many WebSockets: a message is framed once, and compressed once where the parameters allow it.
public typealias WebSocketBroadcast = Broadcast<WebSocket>

/// A message and the frame that all can share who need no other one.
public struct PreparedMessage: Sendable {
  let message: Message
  /// As a server sends it without extensions; nil where the payload is long, and shared as it is.
  let frame: Bytes?
}

extension WebSocket: BroadcastMember {
  public static func prepare(_ message: Message) -> PreparedMessage {
    let bytes = message.bytes
    guard bytes.count <= gatherLimit else {
      return PreparedMessage(message: Message(kind: message.kind, bytes: bytes.compacted()), frame: nil)
    }
    var frame = BytesBuilder(capacity: FrameHeader.maxEncodedLength + bytes.count)
    frame.append(FrameHeader(message.kind.opcode, payloadLength: bytes.count), bytes.span)
    return PreparedMessage(message: message, frame: frame.take())
  }

  public func didMiss() { options.observer?.didMiss() }

  /// Who sends a message in parts is not slow: what is for it is held until the message has ended, as if it were queued.
  public func hasRoomForBroadcast() throws -> Bool {
    guard let held = heldControls?.heldBehindParts, isOpen else { return try hasRoomForPart() }
    if held.byteCount >= options.writeHighWatermark {
      // The end of the message is what makes room: it wakes those who were told that there is none.
      Reached.mark("ws.broadcastHeldFull")
      outgoing.isRoomAwaited = true
      return false
    }
    return try hasRoomForPart()
  }

  public func push(prepared: PreparedMessage) throws {
    if isInsideMessage, isOpen { return hold(prepared) }
    guard let frame = prepared.frame, isPlain, maskingKeys == nil, isOpen else {
      return try push(prepared.message)
    }
    try gather {
      $1.append(frame.span)
      return nil
    }
    noteSent(prepared.message.bytes.count, endsMessage: true)
  }

  private func hold(_ prepared: PreparedMessage) {
    var held = controls.heldBehindParts ?? HeldBroadcasts()
    Reached.mark("ws.broadcastHeldBehindParts")
    held.append(prepared)
    controls.heldBehindParts = held
  }

  /// A message in parts has ended: sends what a broadcast had for this connection meanwhile.
  func pushHeldBroadcasts() {
    guard let held = heldControls?.heldBehindParts.take() else { return }
    // A connection that fails meanwhile says so itself, at the next `hasRoom`.
    for prepared in held.messages { try? push(prepared: prepared) }
    if held.closes.isEmpty { return }
    // Later: who has sent the last part is told first that it is sent.
    loop.execute { held.close(on: self.loop) }
  }

  /// Closes once what is held behind a message in parts has been sent: when that has ended, the connection is over, or the time for closing has passed.
  func closeBehindHeld(_ close: @escaping @Sendable () -> Void) {
    guard isOpen, heldControls?.heldBehindParts != nil else { return close() }
    let limit = loop.schedule(after: options.closeTimeout) { self.closeHeld() }
    heldControls?.heldBehindParts?.closes.append(HeldBroadcasts.Close(limit: limit, action: close))
  }

  /// Nothing of what is held will be sent.
  private func closeHeld() {
    heldControls?.heldBehindParts.take()?.close(on: loop)
  }
}

extension WebSocket: QueueLimiting {
  package func limitQueue(to count: Int) -> Int? {
    outgoing.isRoomKnown = false
    return (transport as? any QueueLimiting)?.limitQueue(to: count)
  }
}

/// Messages of broadcasts that wait for the end of the one under way.
struct HeldBroadcasts {
  private(set) var messages: [PreparedMessage] = []
  private(set) var byteCount = 0
  /// Who waits to close behind them.
  var closes: [Close] = []

  struct Close {
    let limit: LoopTimer
    let action: @Sendable () -> Void
  }

  /// Has all close who wait for that. Whoever calls this has taken these from the connection: nothing is held behind a message any more.
  func close(on loop: any Loop) {
    for close in closes {
      loop.cancelTimer(close.limit)
      close.action()
    }
  }

  mutating func append(_ prepared: PreparedMessage) {
    messages.append(prepared)
    byteCount += heldCost(ofByteCount: prepared.message.bytes.count)
  }
}

extension Broadcast where Member == WebSocket {
  /// Sends a text message to all members: see `write`.
  ///
  /// ```swift
  /// try await room.send("\(name) has joined")
  /// ```
  public func send(_ text: String) async throws { try await write(Message(text)) }

  /// Sends a binary message to all members.
  public func send(_ bytes: Bytes) async throws { try await write(.binary(bytes)) }

  /// Sends a message to all members.
  public func send(_ message: Message) async throws { try await write(message) }
}
