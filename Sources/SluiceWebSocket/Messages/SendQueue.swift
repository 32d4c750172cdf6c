import DequeModule
import SluiceStreams
import SluiceWebSocketProtocol

/// Who waits in `send`, first come, first served. It waits for room beside the one writer, and has it before that.
final class SendQueue: SingleWaker, @unchecked Sendable {  // touched on its loop only
  private var waiting = Deque<LoopWaiter>()

  var isEmpty: Bool { waiting.isEmpty }

  func isFirst(_ waiter: LoopWaiter) -> Bool { waiting.first === waiter }

  func append(_ waiter: LoopWaiter) { waiting.append(waiter) }

  /// Takes a place before all: its message is taken already, and waits for room for the next.
  func prepend(_ waiter: LoopWaiter) { waiting.prepend(waiter) }

  func remove(_ waiter: LoopWaiter) { waiting.removeAll { $0 === waiter } }

  /// There may be room, or the connection has ended: each tells the next.
  func wake() { waiting.first?.wake() }
}

extension WebSocket {
  /// Sends a text message: see `send(_:)` of a message.
  @inlinable
  @inline(__always)
  public func send(_ text: String, isolation actor: isolated (any Actor)? = #isolation) async throws {
    try await send(Message(text), isolation: actor)
  }

  /// Sends a binary message: see `send(_:)` of a message.
  @inlinable
  @inline(__always)
  public func send(_ bytes: Bytes, isolation actor: isolated (any Actor)? = #isolation) async throws {
    try await send(.binary(bytes), isolation: actor)
  }

  /// Sends a message. Returns when there is room for the next one.
  ///
  /// Any number of tasks may send, and messages leave in the order of the calls: while there is no room, each waits for its turn. `write`, which
  /// pipes use, has one caller at a time. A message is not sent inside of another one that is being sent in parts, but behind it.
  /// - Throws: `CancellationError` when the task is cancelled while it waits for its turn; the message was not sent then, and those behind it
  ///   are. `WebSocketError.closed` with the peer's code and reason when the peer has closed, whatever the code; `StreamError.closed` after a
  ///   Close of our own; otherwise what the connection failed with.
  // Inlined, so that what there is room for is sent without a frame of a task. By this form of isolation, because a caller of `nonisolated(nonsending)`
  // asks for its executor behind each call that is inlined, at 250 instructions.
  @inlinable
  @inline(__always)
  public func send(_ message: Message, isolation actor: isolated (any Actor)? = #isolation) async throws {
    switch try beginSending(message) {
    case .done: return
    case .full: try await waitInTurn(toSend: nil, isolation: actor)
    case .mustWait: try await waitInTurn(toSend: message, isolation: actor)
    }
  }

  @usableFromInline
  enum SendStep {
    case done
    /// The message was taken, and there is no room any more.
    case full
    /// The message was not taken: others are before it, or there is no room, or the caller is elsewhere than on the loop.
    case mustWait
  }

  /// What there is room for is taken without suspending.
  @usableFromInline
  @inline(never)
  func beginSending(_ message: Message) throws -> SendStep {
    guard isOnLoop else { return .mustWait }
    if frameShort(message) { return .done }
    return try sendOnLoop(message)
  }

  @inline(never)
  private func sendOnLoop(_ message: Message) throws -> SendStep {
    guard heldControls?.senders == nil else { return .mustWait }
    do {
      guard try hasRoomForMessage() else { return .mustWait }
      return try fill(with: message) ? .done : .full
    } catch { throw sendingFailure(error) }
  }

  /// Pushes a message for which there is room.
  /// - Returns: whether there is room for the next one.
  private func fill(with message: Message) throws -> Bool {
    try frame(message)
    return try hasRoomAfterSending()
  }

  func hasRoomAfterSending() throws -> Bool {
    if try hasRoomForMessage() { return true }
    // What was gathered in this turn may be all that there is no room for.
    flush()
    return try hasRoomForMessage()
  }

  /// - Parameter message: nil if it was taken already: then the wait is for room for the next one, and cancellation ends it without an error.
  @usableFromInline
  @inline(never)
  func waitInTurn(toSend message: Message?, isolation actor: isolated (any Actor)?) async throws {
    try await withTaskExecutorPreference(loop) { @concurrent () async throws in
      do { try await self.waitInTurnOnLoop(toSend: message) } catch { throw self.sendingFailure(error) }
    }
  }

  private nonisolated(nonsending) func waitInTurnOnLoop(toSend message: Message?) async throws {
    var unsent = message
    let senders = controls.senders ?? beginQueueing()
    Reached.mark("ws.senderQueued")
    let waiter = LoopWaiter()
    if unsent == nil { senders.prepend(waiter) } else { senders.append(waiter) }
    defer {
      senders.remove(waiter)
      if senders.isEmpty { endQueueing(senders) } else { senders.wake() }
    }
    while true {
      if senders.isFirst(waiter), try hasRoomForMessage() {
        guard let message = unsent.take() else { return }
        if try fill(with: message) { return }
      }
      if await waiter.waitOrCancel(on: loop) {
        if unsent == nil { return }
        Reached.mark("ws.queuedSenderCancelled")
        throw CancellationError()
      }
      waiter.renew()
    }
  }

  private func beginQueueing() -> SendQueue {
    let senders = SendQueue()
    controls.senders = senders
    writer.attach(broadcast: senders)
    return senders
  }

  private func endQueueing(_ senders: SendQueue) {
    controls.senders = nil
    writer.detach(broadcast: senders)
    // A writer was told that there is no room while others were before it.
    if outgoing.isRoomAwaited { tellOfRoom() }
  }

  /// To a sender, the peer's own words are why nothing can be sent any more.
  func sendingFailure(_ error: any Error) -> any Error {
    incoming.isEndTold = true
    guard case StreamError.closed = error, let close = machine.life.receivedFirst else { return error }
    return WebSocketError.closed(close.code, reason: close.reason)
  }
}
