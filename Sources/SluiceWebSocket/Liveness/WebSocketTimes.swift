import SluiceStreams
import SluiceWebSocketProtocol

/// What the machine's times need of the loop: one timer for each connection that keeps any.
extension WebSocket {
  @inline(__always)
  func note(_ what: Activity) {
    if machine.isWatched { noteWatched(what) }
  }

  private func noteWatched(_ what: Activity) {
    // What is dropped says nothing of a reader.
    if what == .data, incoming.isDiscarding { return }
    machine.note(what, at: loop.timeOfTurn)
  }

  func startWatching() {
    guard machine.isWatched else { return }
    if options.keepalive != nil || options.idleTimeout != nil { keepTimes() }
    options.observer?.didOpen()
  }

  /// Has the machine keep the times of this connection, at the latest from our Close on.
  func keepTimes() {
    machine.isWatched = true
    let keepalive = options.keepalive.map { (interval: $0.interval, timeout: $0.timeout) }
    machine.keepTimes(
      ConnectionTimes.Limits(keepalive: keepalive, idle: options.idleTimeout, close: options.closeTimeout),
      from: loop.now)
    setTimer()
  }

  private var progress: TransportProgress {
    TransportProgress(queued: queuedByteCount, delivered: transport.deliveredByteCount)
  }

  private func setTimer() {
    stopTimer()
    guard let deadline = machine.deadline(at: loop.now, progress) else { return }
    // What closes is held until it has; what is open may be dropped.
    let closing: WebSocket? = isOpen ? nil : self
    controls.timer = loop.schedule(after: deadline - loop.now) { [weak self] in (closing ?? self)?.timeDidPass() }
  }

  private func stopTimer() {
    if let timer = heldControls?.timer.take() { loop.cancelTimer(timer) }
  }

  private func timeDidPass() {
    heldControls?.timer = nil
    while let due = machine.next(dueAt: loop.now, progress) {
      switch due {
      case .ping(let payload):
        Reached.mark("ws.keepalivePing")
        sendDuePing(payload)
      case .idle(let error):
        Reached.mark("ws.idle")
        fail(error, .goingAway)
        tellReader()
        writer.wake()
      case .silence(let error):
        Reached.mark("ws.silence")
        guard case .sendingFailed(let failure as WebSocketError) = machine.life else {
          cut(error)
          break
        }
        // Not the peer is silent where it is this side that does not read: how long that may last is for pipes, and for whoever is to hear of an end.
        if incoming.bytes.isEmpty, transport.isDry {
          cut(failure)
        } else {
          keepTimes()
          readAheadIfNeeded()
        }
      }
    }
    setTimer()
  }

  private func sendDuePing(_ payload: Bytes) {
    sendControl(.ping, payload)
    flush()
    if queuedByteCount == 0 { machine.pingDidLeave() }
    readAheadIfNeeded()
  }

  func stopWatching() {
    stopStallWatch()
    stopTimer()
    if let timer = heldControls?.foreseenEnd.take() { loop.cancelTimer(timer) }
    machine.stopTimes()
  }

  // MARK: a peer that takes nothing

  /// Somebody waits for room. What looks for a stall stays for a while when there is room again, so that a stream that fills and empties its
  /// buffers all the time does not begin anew each time.
  func watchForStall() {
    guard let limit = options.stallTimeout, controls.roomAwaitedSince == nil else { return }
    // A slow extension is not the peer's.
    if let pipeline, !pipeline.hasRoom { return }
    controls.roomAwaitedSince = loop.now
    if controls.stall == nil { beginStallWatch(limit) }
  }

  private func beginStallWatch(_ limit: Duration) {
    controls.stall = StallWatch(transport, limit: limit) { [weak self] in self?.nothingWasTaken(limit) }
  }

  private func nothingWasTaken(_ limit: Duration) {
    heldControls?.stall = nil
    guard isOpen, let since = heldControls?.roomAwaitedSince else { return }
    // Below the high mark there is room, of which nobody is told before the low one: a peer that stalls in between would keep who waits for ever.
    guard (try? hasRoomNow()) == false else {
      Reached.mark("ws.stalledBetweenMarks")
      return tellOfRoom()
    }
    guard loop.now - since >= limit else { return beginStallWatch(limit) }
    Reached.mark("ws.stalled")
    cut(.stalled(limit))
  }

  func stopStallWatch() {
    heldControls?.stall?.stop()
    heldControls?.stall = nil
  }
}
