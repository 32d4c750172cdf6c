import Sluice
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// An event each second, whose id is the second: a client that comes back gets those that it missed.
final class Ticks: Sendable {
  private let clients = Mutex(0)
  /// Seconds that a client may have been away, to get them all.
  private static let maxMissed = 3600

  var options: EventSourceServerOptions {
    var options = EventSourceServerOptions()
    options.retry = .seconds(1)
    return options
  }

  func send(to events: EventStreamConnection) async throws {
    clients.withLock { $0 += 1 }
    defer { clients.withLock { $0 -= 1 } }
    let start = Self.now.second
    var second = events.lastEventID.flatMap { Int($0) }.map { max($0 &+ 1, start - Self.maxMissed) } ?? start
    while events.isOpen {
      let now = Self.now
      if second <= now.second {
        try await events.send(
          "{\"second\":\(second),\"clients\":\(clients.withLock { $0 })}", event: "tick", id: "\(second)")
        second += 1
      } else {
        try await Task.sleep(for: .nanoseconds(1_000_000_000 - now.nanosecond))
      }
    }
  }

  private static var now: (second: Int, nanosecond: Int) {
    var time = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &time)
    return (time.tv_sec, time.tv_nsec)
  }
}
