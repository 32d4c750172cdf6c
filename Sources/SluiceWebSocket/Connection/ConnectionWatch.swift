import SluiceStreams
import SluiceWebSocketProtocol

/// What happened on a connection since one of its timers looked last.
struct Activity: OptionSet {
  let rawValue: UInt8
  /// Any byte came.
  static let received = Activity(rawValue: 1)
  /// A part of a message came or was sent.
  static let data = Activity(rawValue: 2)
  /// All that came was read, and nothing is known to wait: not this side is it that is slow.
  static let starved = Activity(rawValue: 4)
  /// What waits to be sent is above the watermark.
  static let full = Activity(rawValue: 8)
}

/// The timers that look whether a connection lives, where there are any.
final class ConnectionWatch {
  var keepalive = KeepaliveState.off
  var idle: LoopTimer?
  /// When a message, or a part of one, came or was sent last; counted where there is an `idleTimeout`.
  var lastData = Duration.zero
  private var lastPing: UInt32 = 0

  enum KeepaliveState {
    case off
    /// The next ping is due when the timer ends, if nothing comes before.
    case quiet(LoopTimer)
    /// A ping is on its way, or still in our queue.
    case awaitingLife(LoopTimer, isFlushed: Bool)
  }

  var isAwaitingLife: Bool {
    if case .awaitingLife = keepalive { true } else { false }
  }

  /// A payload that no earlier ping had: those of `PingTracker` are longer.
  func nextPingPayload() -> Bytes {
    lastPing &+= 1
    var builder = BytesBuilder(capacity: 4)
    builder.append(bigEndian: lastPing)
    return builder.take()
  }

  var timers: [LoopTimer] {
    let keepaliveTimer: LoopTimer? =
      switch keepalive {
      case .off: nil
      case .quiet(let timer), .awaitingLife(let timer, _): timer
      }
    return [keepaliveTimer, idle].compactMap { $0 }
  }
}

extension WebSocket {
  var watch: ConnectionWatch? { heldControls?.watch }

  @inline(__always)
  func note(_ what: Activity) {
    if isWatched { noteWatched(what) }
  }

  private func noteWatched(_ what: Activity) {
    activity.insert(what)
    if what == .data, options.idleTimeout != nil { watch?.lastData = loop.now }
  }

  func startWatching() {
    guard isWatched else { return }
    controls.watch = ConnectionWatch()
    if let keepalive = options.keepalive, opening.version.hasOpcodes { awaitQuiet(keepalive) }
    if let time = options.idleTimeout {
      watch?.lastData = loop.now
      awaitIdleness(time, for: time)
    }
    options.observer?.didOpen()
  }

  func stopWatching() {
    stopStallWatch()
    for timer in watch?.timers ?? [] { loop.cancelTimer(timer) }
    heldControls?.watch = nil
  }

  // MARK: keepalive

  private func awaitQuiet(_ keepalive: WebSocketOptions.Keepalive) {
    activity.remove(.received)
    let timer = loop.schedule(after: keepalive.interval) { [weak self] in self?.intervalDidEnd(keepalive) }
    watch?.keepalive = .quiet(timer)
  }

  private func intervalDidEnd(_ keepalive: WebSocketOptions.Keepalive) {
    guard let watch, case (.open, .open) = (readState, writeState) else { return }
    if activity.contains(.received) { return awaitQuiet(keepalive) }
    sendControl(.ping, watch.nextPingPayload())
    flush()
    awaitLife(keepalive, isFlushed: queuedByteCount == 0)
    readAheadIfNeeded()
  }

  private func awaitLife(_ keepalive: WebSocketOptions.Keepalive, isFlushed: Bool) {
    let timer = loop.schedule(after: keepalive.timeout) { [weak self] in self?.timeDidEnd(keepalive) }
    watch?.keepalive = .awaitingLife(timer, isFlushed: isFlushed)
  }

  private func timeDidEnd(_ keepalive: WebSocketOptions.Keepalive) {
    guard case .awaitingLife(_, let isFlushed) = watch?.keepalive, case .open = readState else { return }
    if activity.contains(.received) { return awaitQuiet(keepalive) }
    // The time begins anew while the ping is still in our queue, or what came is still to be read.
    guard isFlushed, activity.contains(.starved) else {
      return awaitLife(keepalive, isFlushed: isFlushed || queuedByteCount == 0)
    }
    cut(.keepaliveTimeout(keepalive.timeout))
  }

  // MARK: idleness

  private func awaitIdleness(_ time: Duration, for left: Duration) {
    watch?.idle = loop.schedule(after: left) { [weak self] in self?.idleTimeDidEnd(time) }
  }

  private func idleTimeDidEnd(_ time: Duration) {
    guard case (.open, .open) = (readState, writeState), let watch else { return }
    let left = time - (loop.now - watch.lastData)
    if left > .zero { return awaitIdleness(time, for: left) }
    fail(.idle(time), .goingAway)
    tellReader()
    writer.wake()
  }

  // MARK: a peer that takes nothing

  /// Somebody waits for room. What looks for a stall stays for a while when there is room again, so that a stream that fills and empties its
  /// buffers all the time does not begin anew each time.
  func watchForStall() {
    guard let limit = options.stallTimeout, controls.roomAwaitedSince == nil else { return }
    // A slow extension is not the peer's.
    if case .extensions(let pipeline) = coding, !pipeline.hasRoom { return }
    controls.roomAwaitedSince = loop.now
    if controls.stall == nil { beginStallWatch(limit) }
  }

  private func beginStallWatch(_ limit: Duration) {
    controls.stall = StallWatch(transport, limit: limit) { [weak self] in self?.nothingWasTaken(limit) }
  }

  private func nothingWasTaken(_ limit: Duration) {
    heldControls?.stall = nil
    guard case .open = writeState, let since = heldControls?.roomAwaitedSince else { return }
    // There may be room again without a word of it.
    guard (try? hasRoomNow()) == false else {
      heldControls?.roomAwaitedSince = nil
      return
    }
    if loop.now - since >= limit { cut(.stalled(limit)) } else { beginStallWatch(limit) }
  }

  func stopStallWatch() {
    heldControls?.stall?.stop()
    heldControls?.stall = nil
  }
}
