import Synchronization

/// The one of several connections that is used.
final class FirstConnection: Sendable {
  private let chosen = Mutex<OpenEndpoint?>(nil)

  var connection: OpenEndpoint? { chosen.withLock { $0 } }

  /// - Returns: whether there was none yet.
  func take(_ connection: OpenEndpoint) -> Bool {
    chosen.withLock { chosen in
      if chosen != nil { return false }
      chosen = connection
      return true
    }
  }
}
