import SluiceStreams

/// A life of a log. It ends when the engine may have lost something: with its process, or with its data.
package struct LogEpoch: Hashable, Sendable {
  package let name: String
  /// The number of its first message.
  package let first: UInt64
  /// The number of its newest message; `first - 1` while there is none.
  package var last: UInt64

  package init(name: String, first: UInt64, last: UInt64) {
    self.name = name
    self.first = first
    self.last = last
  }

  package var isEmpty: Bool { last < first }

  /// 60 bits by chance, short enough to be held without memory of their own.
  package static func newName() -> String {
    let letters = Array("abcdefghijklmnopqrstuvwxyz234567".utf8)
    var random = UInt64.random(in: .min ... .max)
    let name = (0..<12).map { _ in
      defer { random >>= 5 }
      return letters[Int(truncatingIfNeeded: random & 31)]
    }
    return String(decoding: name, as: UTF8.self)
  }
}

/// What there is of a log: which numbers its epochs have given, and from which on the messages are still there.
package struct LogState: Hashable, Sendable {
  /// Oldest first, one at least; each begins behind the one before it. The last one is the one that grows.
  package let epochs: [LogEpoch]
  /// The number of the oldest message that is there; nil if there is none.
  package let earliest: UInt64?

  /// What a number of a message may be: what is greater is not a double's, as engines' scripts have them, and is no engine's.
  package static let numbers: ClosedRange<UInt64> = 1...(1 << 53)

  /// - Parameter epochs: One at least.
  package init?(epochs: [LogEpoch], earliest: UInt64?) {
    guard !epochs.isEmpty, earliest.map(Self.numbers.contains) ?? true else { return nil }
    for epoch in epochs where !Self.numbers.contains(epoch.first) || epoch.last > Self.numbers.upperBound { return nil }
    for (one, next) in zip(epochs, epochs.dropFirst()) where next.first <= one.last { return nil }
    self.epochs = epochs
    self.earliest = earliest
  }

  /// - Parameter epoch: Of a log that has one only; its numbers begin with 1 or more.
  package init(epoch: LogEpoch, earliest: UInt64?) {
    epochs = [epoch]
    self.earliest = earliest
  }

  private var current: LogEpoch { epochs[epochs.count - 1] }

  /// Behind the newest message.
  package var end: Position { Position(epoch: current.name, offset: current.last) }

  /// The position behind the message with a number.
  package func position(of offset: UInt64) -> Position {
    let epoch = epochs.last { $0.first <= offset } ?? epochs[0]
    return Position(epoch: epoch.name, offset: offset)
  }

  /// Before the oldest message that is there.
  package var start: Position {
    guard let earliest else { return end }
    return Position(epoch: position(of: earliest).epoch, offset: earliest - 1)
  }

  /// Before the newest messages.
  package func position(beforeLast count: Int) -> Position {
    guard let earliest, var wanted = UInt64(exactly: count), wanted > 0 else { return end }
    for epoch in epochs.reversed() where !epoch.isEmpty {
      let oldest = max(epoch.first, earliest)
      if oldest > epoch.last { break }
      let count = epoch.last - oldest + 1
      if wanted <= count { return Position(epoch: epoch.name, offset: epoch.last - wanted) }
      wanted -= count
    }
    return start
  }

  /// The number that the message directly behind a position has; nil if there is none yet.
  /// - Throws: `TopicError.positionLost` if it is not there any more, or the position is of nothing that this log has.
  package func successor(of position: Position) throws -> UInt64? {
    guard let index = epochs.firstIndex(where: { $0.name == position.epoch }) else {
      throw TopicError.positionLost(asked: position, earliest: start)
    }
    let epoch = epochs[index]
    // What the engine has lost had numbers beyond those that it knows of.
    guard position.offset <= epoch.last else {
      let survived = Position(epoch: epoch.name, offset: epoch.last)
      throw TopicError.positionLost(asked: position, earliest: isWhole(behind: survived) ? survived : start)
    }
    guard position.offset >= epoch.first - 1 else { throw TopicError.positionLost(asked: position, earliest: start) }
    let next =
      position.offset < epoch.last
      ? position.offset + 1 : epochs[(index + 1)...].first { !$0.isEmpty }?.first
    if let next {
      guard let earliest, next >= earliest else { throw TopicError.positionLost(asked: position, earliest: start) }
    }
    return next
  }

  /// With nothing before a number.
  package func whole(from first: UInt64) -> LogState {
    let earliest = max(earliest ?? first, first)
    return LogState(epochs: epochs, earliest: earliest <= end.offset ? earliest : nil) ?? self
  }

  /// Whether all that was ever behind a position is still there.
  package func isWhole(behind position: Position) -> Bool {
    do {
      _ = try successor(of: position)
      return true
    } catch {
      return false
    }
  }
}
