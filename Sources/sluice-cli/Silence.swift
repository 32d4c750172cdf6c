import Sluice
import Synchronization

/// When something last passed a connection, in either direction.
final class Silence: Sendable {
  private let last = Mutex(ContinuousClock.now)

  func end() { last.withLock { $0 = ContinuousClock.now } }

  /// Returns once nothing has passed for so long.
  func wait(for limit: Duration) async throws {
    while true {
      let left = limit - (ContinuousClock.now - last.withLock { $0 })
      if left <= .zero { return }
      try await Task.sleep(for: left)
    }
  }
}

/// A limit of silence, and what becomes of a connection then.
enum SilenceLimit: Sendable {
  /// It ends in order.
  case ends(after: Duration)
  /// It is cut.
  case cuts(after: Duration)

  var time: Duration {
    switch self {
    case .ends(let time), .cuts(let time): time
    }
  }
}

/// A client said nothing, and was told nothing.
struct IdleConnection: Error, CustomStringConvertible {
  let limit: Duration

  var description: String { "nothing was sent or received for \(Reconnection.text(limit))" }
}
