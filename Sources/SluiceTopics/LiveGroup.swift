/// Readers of one loop that stand at the ring's end, and are given what comes all at once, without a task that wakes for each of them.
package protocol LiveGroup: AnyObject, Sendable {
  /// There is something new, or the ring has ended. From any thread; it must not wait.
  func ringDidChange()
}

/// One reader's seat in a group.
package protocol LiveSeat {
  /// Takes the reader in, which has seen nothing behind its place. It is woken when it has to see for itself how it goes on. On the loop.
  func join(at place: RingPlace)
  /// On the loop.
  func leave()
}

/// What those share who form a group: their loop, and their kind.
package struct LiveGroupKey: Hashable, Sendable {
  let loop: ObjectIdentifier
  let kind: ObjectIdentifier

  package init(loop: AnyObject, kind: Any.Type) {
    self.loop = ObjectIdentifier(loop)
    self.kind = ObjectIdentifier(kind)
  }
}

/// A place that is compared with the ring.
package struct RingPlace: Hashable, Sendable {
  package var position: Position
  /// The ring's, that the position is known to be good for.
  package let revision: Int
}

/// What a group finds behind its place.
package enum LiveStep {
  case messages([TopicMessage])
  case nothing
  /// It is not the ring's any more: each reader has to see for itself how it goes on.
  case ended
}

extension TopicReader {
  /// The group that readers of its topic form, made when it is asked for first.
  package func enterGroup<Group: LiveGroup>(_ key: LiveGroupKey, _ make: () -> Group) -> Group {
    feed.enterGroup(key, make)
  }

  package func leaveGroup(_ key: LiveGroupKey) { feed.leaveGroup(key) }

  /// What the ring of its topic has behind a place, which need not be the reader's own.
  package func live(after place: RingPlace, maxCount: Int) -> LiveStep {
    switch feed.take(after: place.position, revision: place.revision, maxCount: maxCount, for: nil) {
    case .messages(let messages): .messages(messages)
    case .wait: .nothing
    case .behind, .closed: .ended
    }
  }
}
