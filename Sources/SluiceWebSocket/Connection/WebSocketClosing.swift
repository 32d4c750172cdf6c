import SluiceStreams
import SluiceWebSocketProtocol

extension WebSocket {
  /// Closes: what was sent before is flushed, the Close frame follows it, and the peer's Close is awaited.
  ///
  /// Returns at once if the connection is closed already. Messages that arrive meanwhile can still be read. A task that is
  /// cancelled, before or meanwhile, does not wait for the peer: the Close leaves, and the connection ends by itself within `closeTimeout`.
  /// - Parameters:
  ///   - code: One that has a name, or 3000-4999 (RFC 6455 §7.4): see `CloseCode.isAllowedOnWire`.
  ///   - reason: Up to 123 bytes of UTF-8.
  /// - Throws: `WebSocketError.invalidCloseCode`, `.closeReasonTooLong`; `.closeTimeout` if the peer did not answer within
  ///   `closeTimeout` (the connection is cut then), `.connectionLost` if it ended without an answer;
  ///   `CancellationError`.
  public func close(_ code: CloseCode, _ reason: String = "") async throws {
    try code.checkFromCaller(reason: reason)
    try await close(as: code, reason)
  }

  /// Whether an error says no more than that this connection has ended, as its peer or its network wanted.
  package func isEnd(_ error: any Error) -> Bool {
    switch error {
    case StreamError.closed, StreamError.tooSlow, is WebSocketError, is IOError:
      !isOpen
    default: false
    }
  }

  /// Closes with 1000: see `close(_:_:)`.
  public func close() async throws { try await close(as: .normal, "") }

  /// Closes as another connection was closed, for a proxy: with the code and the reason that came, without a code if none came (1005), and with
  /// 1011 if there was no Close (1006, 1015).
  ///
  /// ```swift
  /// if let status = upstream.closeStatus { try await ws.close(passingOn: status.code, status.reason) }
  /// ```
  /// - Throws: As `close(_:_:)`.
  public func close(passingOn code: CloseCode, _ reason: String = "") async throws {
    if code == .noStatus { return try await close(as: code, "") }
    try await close(as: code.isAllowedOnWire ? code : .internalError, code.isAllowedOnWire ? reason : "")
  }

  /// Closes with any code that may be on the wire.
  package func close(as code: CloseCode, _ reason: String) async throws {
    let wait = CloseWait()
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        loop.perform {
          self.close(as: code, reason) { wait.end($0) }
          wait.begin(continuation)
        }
      }
    } onCancel: {
      loop.perform { wait.cancel() }
    }
  }

  /// Closes though the calling task is cancelled; the wait is for `closeTimeout` at the most.
  func closeInCancelledTask(as code: CloseCode) async {
    await withCheckedContinuation { continuation in
      loop.perform { self.close(as: code, "") { _ in continuation.resume() } }
    }
  }

  /// Behind what a broadcast has sent while a message is being sent in parts, if that ends within `closeTimeout`.
  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    closeBehindHeld { self.close(as: .normal, "", completion) }
  }

  /// With the code and reason of the other connection if that is a WebSocket that was closed so, otherwise with 1011.
  public func closeWhenFlushed(after failure: any Error, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    closeBehindHeld { self.close(after: failure, completion) }
  }

  /// The same at once, also inside of a message.
  func close(after failure: any Error, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    switch failure {
    case WebSocketError.closed(let code, let reason) where code.isAllowedOnWire: close(as: code, reason, completion)
    default: close(as: .internalError, "", completion)
    }
  }

  package func close(as code: CloseCode, _ reason: String, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    sendClose(code, reason)
    switch closing {
    case .waiting(let completions): closing = .waiting(completions + [completion])
    case .none, .lingering, .done: completion(closingFailure)
    }
    readAheadIfNeeded()
  }

  private var closingFailure: (any Error)? {
    if case .failed(let error)? = machine.life.writingEnd { error } else { nil }
  }

  /// Writes a Close frame, if none was written, and waits for the peer's.
  func sendClose(_ code: CloseCode, _ reason: String) {
    if changeLife({ $0.close(code, reason) }) { didDecideToClose(code, reason) }
  }

  private func didDecideToClose(_ code: CloseCode, _ reason: String) {
    heldControls?.unsentPong = nil
    afterSent { self.appendClose(code, reason) }
    writer.wake()
    guard case .none = closing else { return }
    closing = .waiting([])
    // From here on it is noted what moves.
    keepTimes()
    if isReading { return }
    didCloseBoth()
  }

  private func appendClose(_ code: CloseCode, _ reason: String) {
    let hasLostMessages = pipeline?.hasLostMessages == true
    gatherSoon { $0.appendClose(hasLostMessages ? .internalError : code, hasLostMessages ? "" : reason, to: &$1) }
    // It has nothing to close with but the end.
    if opening.version == .hixie75 {
      flush()
      transport.closeWhenFlushed { _ in }
    }
  }

  func didReceiveClose(_ code: CloseCode?, _ reason: String) {
    let code = code ?? .noStatus
    let isAnswered = changeLife { $0.receiveClose(code, reason) }
    heldControls?.pings.fail()
    if isAnswered {
      didDecideToClose(code, "")
    } else {
      Reached.mark("ws.closeCrossed")
      didCloseBoth()
    }
    tellReader()
  }

  /// The peer broke the protocol: it is told why, and nothing it sends from now on counts.
  func failProtocol(_ error: WebSocketProtocolError) {
    afterReceived { self.fail(.protocolViolation(error), error.closeCode) }
  }

  /// Closes from this side, whatever the peer still sends.
  func fail(_ error: WebSocketError, _ code: CloseCode) {
    guard isReading else { return }
    let mustClose = changeLife { $0.fail(error, code) }
    heldControls?.pings.fail()
    if mustClose { didDecideToClose(code, "") } else { didCloseBoth() }
  }

  /// Cuts the connection whose peer does not answer.
  func cut(_ error: WebSocketError) {
    let close = takeHeldClose()
    changeLife { $0.cut(error, after: close) }
    heldControls?.pings.fail()
    finish(with: error)
    transport.abort(error)
    tellReader()
    writer.wake()
  }

  /// The peer's Close that waits for the reader says more than that the connection is lost.
  private func takeHeldClose() -> CloseStatus? {
    guard isReading, let held = incoming.ahead.popEnd() else { return nil }
    Reached.mark("ws.cutBehindHeldEnd")
    loop.cancelTimer(held.limit)
    guard case .close(let code, let reason) = held.end else { return nil }
    return CloseStatus(code ?? .noStatus, reason)
  }

  /// The transport failed without the peer's Close.
  func didLoseConnection(_ error: any Error) {
    Reached.mark("ws.connectionLost")
    cut(.connectionLost(underlying: error))
  }

  /// The peer has ended its half without a Close. Nothing more comes, so that the connection is lost; but the peer may still read, and what was sent
  /// before leaves.
  func didEndWithoutClose(_ underlying: (any Error)?) {
    Reached.mark("ws.endedWithoutClose")
    let error = WebSocketError.connectionLost(underlying: underlying)
    let close = takeHeldClose()
    changeLife { $0.cut(error, after: close) }
    heldControls?.pings.fail()
    // For as long as that takes, with a peer that may take nothing.
    keepTimes()
    afterSent { self.endTransport(waitingFor: .ours, error) }
    tellReader()
    writer.wake()
  }

  /// Both Close frames are on their way or here: ends our half of the transport, then waits for the peer to end its.
  private func didCloseBoth() {
    afterSent { self.endTransport(waitingFor: [.ours, .peers], nil) }
  }

  /// - Parameter failure: What `close` is told, unless the peer has closed.
  private func endTransport(waitingFor ends: TransportEnds, _ failure: WebSocketError?) {
    let completions: [@Sendable ((any Error)?) -> Void]
    switch closing {
    case .none: completions = []
    case .waiting(let waiting): completions = waiting
    case .lingering, .done: return
    }
    closing = .lingering(until: ends)
    wakeCloseWaiters()
    flush()
    // A peer whose Close is here has all that it will read; it need not wait for ours before it leaves.
    let hasAnswered = received != nil
    transport.closeWhenFlushed { error in
      for completion in completions { completion(hasAnswered ? nil : error ?? failure) }
      self.didEnd(.ours)
    }
    if ends.contains(.peers) { linger() }
    tellOfEnd()
  }

  /// Comes last: an observer may do anything.
  private func tellOfEnd() { options.observer?.didEnd(received?.code ?? .abnormal) }

  private func didEnd(_ end: TransportEnds) {
    guard case .lingering(let ends) = closing else { return }
    Reached.mark("ws.lingered")
    let left = ends.subtracting(end)
    if left.isEmpty { finish(with: nil) } else { closing = .lingering(until: left) }
  }

  /// RFC 6455 §7.1.1: reads what is still on its way, so that no reset overtakes our Close frame.
  func linger() {
    do {
      if try transport.dropReady() { didEnd(.peers) }
    } catch let error as any ReadingEndError where error.endsReadingOnly {
      // The peer may still read: what is on its way to it has its time.
      didEnd(.peers)
    } catch {
      Reached.mark("ws.lostWhileLingering")
      finish(with: nil)
    }
  }

  /// Gives the transport up. Every wait ends here at the latest: who reads or waits for room is told by the caller of this.
  private func finish(with error: (any Error)?) {
    var waiting: [@Sendable ((any Error)?) -> Void] = []
    var isTold = false
    switch closing {
    case .done: return
    case .none: break
    case .waiting(let completions): waiting = completions
    case .lingering: isTold = true
    }
    closing = .done
    // What was held for the reader says nothing any more that the machine does not know.
    if let held = incoming.ahead.popEnd() { loop.cancelTimer(held.limit) }
    let held = heldControls?.heldBehindParts.take()
    heldControls?.pings.fail()
    stopWatching()
    machine.release()
    pipeline?.close()
    transport.detachReader()
    transport.detachWriter()
    transport.cancel(nil)
    wakeCloseWaiters()
    let observer = heldControls?.observer
    heldControls?.observer = nil
    observer?.connectionIsOver()
    if serving.isRunning { tellHandler() } else { slot = nil }
    for completion in waiting { completion(error) }
    held?.close(on: loop)
    if !isTold { tellOfEnd() }
  }

  /// Cuts the connection without a Close frame; what is queued is dropped.
  public func abort(_ reason: any Error) {
    loop.perform {
      if case .done = self.closing { return }
      self.changeLife { $0.cut(reason) }
      // The transport then tells its end to nobody.
      self.finish(with: reason)
      self.transport.abort(reason)
      self.tellReader()
      self.writer.wake()
    }
  }
}

extension WebSocket: EndReasonGiving, EndReasonRepeating {
  package var endReason: (any Sendable)? { get async { await onLoop { $0.received } } }

  package func close(repeating reason: any Sendable) async throws {
    guard let theirs = reason as? CloseStatus else { return try await close() }
    try await close(as: theirs.code, theirs.reason)
  }
}

/// One wait for a close. It ends with that, or when its task is cancelled: the closing goes on then.
private final class CloseWait: @unchecked Sendable {  // touched on its loop only
  private enum State {
    case idle
    case waiting(CheckedContinuation<Void, any Error>)
    case cancelled
    case done((any Error)?)
  }
  private var state = State.idle

  func begin(_ continuation: CheckedContinuation<Void, any Error>) {
    switch state {
    case .idle, .waiting: state = .waiting(continuation)
    case .cancelled: continuation.resume(throwing: CancellationError())
    case .done(let error): Self.resume(continuation, error)
    }
  }

  func cancel() {
    switch state {
    case .idle: state = .cancelled
    case .waiting:
      Reached.mark("ws.closeCancelled")
      end(CancellationError())
    case .cancelled, .done: break
    }
  }

  func end(_ error: (any Error)?) {
    if case .waiting(let continuation) = state { Self.resume(continuation, error) }
    state = .done(error)
  }

  private static func resume(_ continuation: CheckedContinuation<Void, any Error>, _ error: (any Error)?) {
    if let error { continuation.resume(throwing: error) } else { continuation.resume() }
  }
}

extension CloseCode {
  /// - Throws: `WebSocketError.invalidCloseCode`, `.closeReasonTooLong`.
  func checkFromCaller(reason: String) throws {
    guard isAllowedOnWire else { throw WebSocketError.invalidCloseCode(self) }
    guard reason.utf8.count <= 123 else { throw WebSocketError.closeReasonTooLong(byteCount: reason.utf8.count) }
  }
}
