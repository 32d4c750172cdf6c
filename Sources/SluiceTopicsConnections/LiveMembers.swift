import SluiceStreams
import SluiceTopics
import Synchronization

/// The connections of one loop and kind that stand at the end of a topic's ring: each new message is prepared once and pushed to all of them in one go, as a
/// broadcast does. Whoever has no room, or ends, leaves, and its own task sees how it goes on.
final class LiveMembers<Member: BroadcastMember>: LiveGroup, @unchecked Sendable {
  // Touched on the loop only, but for `isScheduled`.
  private struct Entry {
    let reader: TopicReader
    let member: Member
    /// The number behind which it is given messages: it may have had some that the others have not.
    let after: UInt64
  }

  private let loop: any Loop
  private let form: @Sendable (TopicMessage) throws -> Member.Prepared
  private var entries: [Entry] = []
  private var indices: [ObjectIdentifier: Int] = [:]
  /// Behind what all have; nil while there is nobody.
  private var place: RingPlace?
  private let isScheduled = Atomic(false)

  /// Messages at a time, which leave in one write for each connection, and pushes: other work of the loop comes in between.
  private static var maxCount: Int { 64 }
  private static var maxPushes: Int { 1 << 16 }

  init(_ loop: any Loop, _ form: @escaping @Sendable (TopicMessage) throws -> Member.Prepared) {
    self.loop = loop
    self.form = form
  }

  func ringDidChange() {
    if isScheduled.exchange(true, ordering: .acquiringAndReleasing) { return }
    loop.execute { self.deliver() }
  }

  func join(_ reader: TopicReader, _ member: Member, at place: RingPlace) {
    let shared = self.place ?? place
    // What the others have had already it takes from the ring first.
    guard shared.position.offset <= place.position.offset else { return reader.wake() }
    self.place = shared
    indices[ObjectIdentifier(reader)] = entries.count
    entries.append(Entry(reader: reader, member: member, after: place.position.offset))
    // Something may have come since it has looked.
    ringDidChange()
  }

  func leave(_ reader: TopicReader) {
    if let index = indices[ObjectIdentifier(reader)] { remove(at: index) }
  }

  private func remove(at index: Int) {
    indices[ObjectIdentifier(entries[index].reader)] = nil
    let last = entries.removeLast()
    if index < entries.count {
      entries[index] = last
      indices[ObjectIdentifier(last.reader)] = index
    }
    if entries.isEmpty { place = nil }
  }

  private func deliver() {
    // Before it is looked: what comes behind that asks for another turn.
    isScheduled.store(false, ordering: .sequentiallyConsistent)
    guard let place, let reader = entries.first?.reader else { return }
    let maxCount = min(max(Self.maxPushes / entries.count, 1), Self.maxCount)
    switch reader.live(after: place, maxCount: maxCount) {
    case .nothing: return
    case .ended: return wakeAll()
    case .messages(let messages):
      guard let last = messages.last else { return }
      // What can't be prepared, each finds itself.
      guard let prepared = try? messages.map({ try $0.shared(form) }) else { return wakeAll() }
      self.place?.position = last.position
      give(messages, prepared)
      if messages.count == maxCount { ringDidChange() }
    }
  }

  private func wakeAll() {
    let readers = entries.map(\.reader)
    entries = []
    indices = [:]
    place = nil
    for reader in readers { reader.wake() }
  }

  private func give(_ messages: [TopicMessage], _ prepared: [Member.Prepared]) {
    var index = 0
    while index < entries.count {
      let entry = entries[index]
      if give(messages, prepared, to: entry) {
        index += 1
      } else {
        remove(at: index)
        entry.reader.wake()
      }
    }
  }

  /// - Returns: whether it has them all.
  private func give(_ messages: [TopicMessage], _ prepared: [Member.Prepared], to entry: Entry) -> Bool {
    var taken: TopicMessage?
    var gathered = 0
    defer {
      if let taken {
        entry.reader.didTake(taken)
        // At once, and not at the end of the turn: what thousands of connections gather would be memory of each, where one buffer after the other is the same.
        entry.member.flush()
      }
    }
    do {
      for index in messages.indices where messages[index].position.offset > entry.after {
        guard try entry.member.hasRoom(gathered: &gathered) else { return false }
        try entry.member.push(prepared: prepared[index])
        taken = messages[index]
        gathered += messages[index].byteCount
      }
      return true
    } catch {
      return false
    }
  }
}

/// A connection's seat among the others.
struct Seat<Member: BroadcastMember>: LiveSeat {
  let group: LiveMembers<Member>
  let reader: TopicReader
  let member: Member

  func join(at place: RingPlace) { group.join(reader, member, at: place) }
  func leave() { group.leave(reader) }
}

extension BroadcastMember {
  /// Whether there is room, once what was gathered in this turn, which may be all that there is no room for, has left.
  /// - Parameter gathered: Bytes that were pushed since something left. Beyond 16 KiB they leave first: what the system does not take of them stays in memory.
  func hasRoom(gathered: inout Int) throws -> Bool {
    if gathered > 16 << 10 {
      flush()
      gathered = 0
    }
    if try hasRoomForBroadcast() { return true }
    flush()
    gathered = 0
    return try hasRoomForBroadcast()
  }
}
