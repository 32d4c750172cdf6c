import SluiceStreams

/// What happened on a connection since one of its times was looked at last.
@usableFromInline
package struct Activity: OptionSet, Sendable {
  @usableFromInline package let rawValue: UInt8

  @inlinable
  package init(rawValue: UInt8) { self.rawValue = rawValue }

  /// Any byte came.
  @inlinable package static var received: Activity { Activity(rawValue: 1) }
  /// A part of a message came or was sent.
  @inlinable package static var data: Activity { Activity(rawValue: 2) }
  /// All that came was read, and nothing is known to wait: not this side is it that is slow.
  @inlinable package static var starved: Activity { Activity(rawValue: 4) }
}

/// How far the peer's system has taken what is written to it.
package struct TransportProgress: Sendable {
  /// Bytes that wait to be sent.
  let queued: Int
  /// Bytes that the peer's system has acknowledged since the beginning, where that is known.
  let delivered: Int?

  package init(queued: Int, delivered: Int?) {
    self.queued = queued
    self.delivered = delivered
  }

  /// Grows with every byte that is taken.
  fileprivate var taken: Int { delivered ?? -queued }
}

/// The times of a connection: when it pings, and when it is given up because its peer is silent, or nobody says anything.
///
/// A value with one deadline, that knows no timers: `next(dueAt:)` tells what is due. A time that ends a connection counts silence, and begins
/// anew with every sign of life.
package struct ConnectionTimes: Sendable {
  package struct Limits: Sendable {
    /// When to ping, and how long to wait for anything to come then.
    var keepalive: (interval: Duration, timeout: Duration)?
    /// How long there may be no message either way.
    var idle: Duration?
    /// How long the peer may be silent once we have closed.
    var close: Duration

    package init(
      keepalive: (interval: Duration, timeout: Duration)? = nil, idle: Duration? = nil, close: Duration = .seconds(10)
    ) {
      self.keepalive = keepalive
      self.idle = idle
      self.close = close
    }
  }

  package enum Due {
    /// A ping is to be sent, and `pingDidLeave` to be called if all that waited has left with it.
    case ping(Bytes)
    /// The connection is to be closed with 1001: nobody says anything.
    case idle(WebSocketError)
    /// The connection is to be cut: its peer is gone.
    case silence(WebSocketError)
  }

  private enum Keepalive {
    case off
    /// The next ping is due at this time, if nothing comes before.
    case quiet(until: Duration)
    /// A ping is on its way, or still in our queue.
    case awaitingLife(until: Duration, hasLeft: Bool)
  }

  private struct Closing {
    var taken: Int
    /// When the peer was seen to live last.
    var lastProgress: Duration
    var nextLook: Duration
  }

  private let limits: Limits
  private var keepalive = Keepalive.off
  private var idleEnd: Duration?
  private var closing: Closing?
  private var activity = Activity()
  /// When a message, or a part of one, came or was sent last.
  private var lastData: Duration
  private var lastPing: UInt32 = 0

  init(_ limits: Limits, from now: Duration, canPing: Bool = true) {
    self.limits = limits
    lastData = now
    idleEnd = limits.idle.map { now + $0 }
    if canPing, let keepalive = limits.keepalive { self.keepalive = .quiet(until: now + keepalive.interval) }
  }

  mutating func note(_ what: Activity, at now: Duration) {
    activity.insert(what)
    if what.contains(.data) { lastData = now }
  }

  /// There is something to read: until that is done, it is this side that is slow.
  mutating func noteUnread() { activity.remove(.starved) }

  /// Whether a ping waits for anything to come.
  var isAwaitingLife: Bool {
    if case .awaitingLife = keepalive { true } else { false }
  }

  mutating func pingDidLeave() {
    if case .awaitingLife(let end, _) = keepalive { keepalive = .awaitingLife(until: end, hasLeft: true) }
  }

  /// Nothing of the peer counts any more.
  mutating func stopPings() { keepalive = .off }

  /// From now on the peer's end is waited for: there are no more pings, and nothing is idle.
  mutating func beginClosing(at now: Duration, _ transport: TransportProgress) {
    guard closing == nil else { return }
    if case .quiet = keepalive { keepalive = .off }
    idleEnd = nil
    activity.remove(.data)
    closing = Closing(taken: transport.taken, lastProgress: now, nextLook: now + limits.close / 4)
  }

  /// The earliest time at which something may be due.
  var deadline: Duration? {
    let pingOrEnd: Duration? =
      switch keepalive {
      case .off: nil
      case .quiet(let end), .awaitingLife(let end, _): end
      }
    return [pingOrEnd, idleEnd, closing?.nextLook].compactMap { $0 }.min()
  }

  /// - Returns: what is due first; nil if nothing is, and then the deadline lies ahead.
  mutating func next(dueAt now: Duration, _ transport: TransportProgress) -> Due? {
    closeDue(now, transport) ?? keepaliveDue(now, transport) ?? idleDue(now)
  }

  private mutating func closeDue(_ now: Duration, _ transport: TransportProgress) -> Due? {
    guard var closing, closing.nextLook <= now else { return nil }
    if transport.taken != closing.taken || activity.contains(.data) {
      closing.taken = transport.taken
      closing.lastProgress = now
      activity.remove(.data)
    }
    let left = limits.close - (now - closing.lastProgress)
    if left <= .zero {
      self.closing = nil
      keepalive = .off
      return .silence(.closeTimeout(limits.close))
    }
    closing.nextLook = now + min(limits.close / 4, left)
    self.closing = closing
    return nil
  }

  private mutating func keepaliveDue(_ now: Duration, _ transport: TransportProgress) -> Due? {
    guard let times = limits.keepalive else { return nil }
    switch keepalive {
    case .off: return nil
    case .quiet(let end):
      guard end <= now else { return nil }
      if activity.contains(.received) {
        awaitQuiet(times.interval, from: now)
        return nil
      }
      keepalive = .awaitingLife(until: now + times.timeout, hasLeft: false)
      return .ping(nextPingPayload())
    case .awaitingLife(let end, let hasLeft):
      guard end <= now else { return nil }
      if activity.contains(.received) {
        awaitQuiet(times.interval, from: now)
        return nil
      }
      // The time begins anew while the ping is still in our queue, or what came is still to be read.
      guard hasLeft, activity.contains(.starved) else {
        keepalive = .awaitingLife(until: now + times.timeout, hasLeft: hasLeft || transport.queued == 0)
        return nil
      }
      keepalive = .off
      return .silence(.keepaliveTimeout(times.timeout))
    }
  }

  private mutating func awaitQuiet(_ interval: Duration, from now: Duration) {
    activity.remove(.received)
    keepalive = closing == nil ? .quiet(until: now + interval) : .off
  }

  private mutating func idleDue(_ now: Duration) -> Due? {
    guard let idleEnd, let limit = limits.idle, idleEnd <= now else { return nil }
    let end = lastData + limit
    self.idleEnd = end > now ? end : nil
    return end > now ? nil : .idle(.idle(limit))
  }

  /// A payload that no earlier ping had. Those of an application's pings are longer.
  private mutating func nextPingPayload() -> Bytes {
    lastPing &+= 1
    var builder = BytesBuilder(capacity: 4)
    builder.append(bigEndian: lastPing)
    return builder.take()
  }
}
