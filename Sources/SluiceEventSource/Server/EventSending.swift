import DequeModule
import SluiceStreams

/// Who waits in `send`, first come, first served: one at a time waits for room. Touched on its loop only.
struct SenderQueue {
  private var isTaken = false
  private var waiting = Deque<LoopWaiter>()

  /// - Returns: nil if it is the caller's turn; otherwise what it waits with for it.
  mutating func enter() -> LoopWaiter? {
    if !isTaken {
      isTaken = true
      return nil
    }
    Reached.mark("events.senderQueued")
    let waiter = LoopWaiter()
    waiting.append(waiter)
    return waiter
  }

  /// - Returns: false if it was the caller's turn by then.
  mutating func giveUp(_ waiter: LoopWaiter) -> Bool {
    guard let index = waiting.firstIndex(where: { $0 === waiter }) else { return false }
    waiting.remove(at: index)
    return true
  }

  /// The next one's turn begins at once: nobody gets in between.
  mutating func leave() {
    if let next = waiting.popFirst() { next.wake() } else { isTaken = false }
  }
}

extension EventStreamConnection {
  /// Sends an event. Returns when there is room for the next one.
  ///
  /// Any number of tasks may send, and events leave in the order of the calls: while there is no room, each waits for its turn. `write`, which pipes
  /// use, has one caller at a time.
  /// - Throws: `EventFieldError` for a type or an id with a line end or NUL; `CancellationError` when the task is cancelled while it waits for its turn,
  ///   and then the event was not sent; `StreamError.closed` when the client has left.
  public func send(
    _ data: String, event: String? = nil, id: String? = nil, retry: Duration? = nil
  ) async throws {
    let event = ServerSentEvent(data, event: event, id: id, retry: retry)
    if isOnLoop { return try await sendInTurn(event) }
    try await withTaskExecutorPreference(loop) { try await self.sendInTurn(event) }
  }

  private func sendInTurn(_ event: ServerSentEvent) async throws {
    if let waiter = senders.enter(), await waiter.waitOrCancel(on: loop) {
      // Whoever was given the turn in the moment of its cancellation passes it on.
      if !senders.giveUp(waiter) { senders.leave() }
      throw CancellationError()
    }
    defer { senders.leave() }
    try await write(event)
  }
}

extension EventStreamConnection {
  /// Says where the client goes on when it comes back, without an event: an id alone is taken for the last one, and nothing is dispatched
  /// (HTML standard, §9.2.6). On the loop only.
  /// - Throws: As `hasRoom`; `EventFieldError.invalidID`.
  package func push(id: String) throws {
    try checkWritable()
    guard !id.utf8.contains(where: { $0 == 0x0A || $0 == 0x0D || $0 == 0x00 }) else { throw EventFieldError.invalidID }
    append(Bytes("id: \(id)\n\n"))
  }
}
