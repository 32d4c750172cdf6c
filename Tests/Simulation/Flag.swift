import Synchronization

/// Something that happens once.
final class Flag: Sendable {
  private let isRaised = Mutex(false)

  var isUp: Bool { isRaised.withLock { $0 } }

  /// - Returns: whether it was up before.
  @discardableResult
  func raise() -> Bool {
    isRaised.withLock { value in
      defer { value = true }
      return value
    }
  }
}
