import DequeModule

/// The members of a broadcast that live on one loop.
final class MembersOfLoop<Member: BroadcastMember>: @unchecked Sendable {  // touched on the loop only
  typealias SlowPolicy = Broadcast<Member>.SlowPolicy

  let loop: any Loop
  /// In an order that follows from who has joined and left, and not from where they lie in memory.
  private var members: [Member] = []
  /// Where each stands.
  private var places: [ObjectIdentifier: Int] = [:]
  private var turn = Turn.free
  /// Writers that wait for their turn to wait for members.
  private var queue = Deque<LoopWaiter>()

  /// One writer at a time waits for members that are slow, so that each gets the elements in one order.
  private enum Turn {
    case free
    case taken
    case waiting(for: ObjectIdentifier, LoopWaiter)
  }

  /// How the broadcast has ended: a member may be on its way here then.
  private var end: End?

  private enum End {
    case closed
    case aborted(any Error)
  }

  init(_ loop: any Loop) { self.loop = loop }

  func add(_ member: Member) {
    switch end {
    case nil:
      guard places[ObjectIdentifier(member)] == nil else { return }
      places[ObjectIdentifier(member)] = members.count
      members.append(member)
    // From another thread only: a member may be on its way here as the end is.
    case .closed: member.closeWhenFlushed { _ in }
    case .aborted(let reason): member.abort(reason)
    }
  }

  func remove(_ member: Member) {
    let id = ObjectIdentifier(member)
    if let place = places.removeValue(forKey: id), let last = members.popLast(), last !== member {
      members[place] = last
      places[ObjectIdentifier(last)] = place
    }
    if case .waiting(for: id, let waiter) = turn {
      Reached.mark("broadcast.awaitedMemberLeft")
      waiter.wake()
    }
  }

  /// Returns when each member that the elements are for has them.
  func write(_ elements: [Member.Prepared], _ policy: SlowPolicy) async throws {
    try await withTaskExecutorPreference(loop) {
      switch policy {
      case .wait, .waitUpTo, .buffer:
        try await takeTurn()
        defer { endTurn() }
        for element in elements { try await writeToAll(element, policy) }
      case .dropNewest:
        for element in elements {
          for member in slow(after: element, policy) {
            Reached.mark("broadcast.missed")
            member.didMiss()
          }
        }
      case .disconnect:
        for element in elements {
          for member in slow(after: element, policy) { cut(member) }
        }
      }
    }
  }

  private func cut(_ member: Member) {
    Reached.mark("broadcast.cut")
    member.abort(StreamError.tooSlow(bufferedBytes: member.queuedByteCount))
  }

  private func writeToAll(_ element: Member.Prepared, _ policy: SlowPolicy) async throws {
    for member in slow(after: element, policy) {
      do {
        if try await waitForRoom(of: member, policy) { try? member.push(prepared: element) }
      } catch let error as CancellationError where Task.isCancelled {
        throw error
      } catch {}  // It is leaving.
    }
  }

  /// Pushes an element to those that have room.
  /// - Returns: the others.
  private func slow(after element: Member.Prepared, _ policy: SlowPolicy) -> [Member] {
    var slow: [Member] = []
    for member in members {
      // Whoever can't be written to is leaving.
      guard var isRoom = try? hasRoom(member, policy) else { continue }
      if !isRoom {
        // What was gathered in this turn may be all that there is no room for.
        member.flush()
        isRoom = (try? hasRoom(member, policy)) ?? false
      }
      if isRoom { try? member.push(prepared: element) } else { slow.append(member) }
    }
    return slow
  }

  private func hasRoom(_ member: Member, _ policy: SlowPolicy) throws -> Bool {
    if try member.hasRoomForBroadcast() { return true }
    guard case .buffer(let limit) = policy else { return false }
    return member.queuedByteCount < limit
  }

  // MARK: ending

  /// Closes all at once, and waits until each is closed or has failed.
  /// - Parameter failure: What the source of the elements failed with, if it did.
  func close(after failure: (any Error)?) async {
    await withCheckedContinuation { continuation in
      loop.perform {
        if self.end == nil { self.end = .closed }
        let open = Countdown(from: self.members.count + 1) { continuation.resume() }
        for member in self.members {
          if let failure {
            member.closeWhenFlushed(after: failure) { _ in open.step() }
          } else {
            member.closeWhenFlushed { _ in open.step() }
          }
        }
        open.step()
      }
    }
  }

  func abort(_ reason: any Error) {
    loop.perform {
      self.end = .aborted(reason)
      for member in self.members { member.abort(reason) }
    }
  }

  // MARK: waiting

  /// - Returns: false if the member left meanwhile.
  private func waitForRoom(of member: Member, _ policy: SlowPolicy) async throws -> Bool {
    let id = ObjectIdentifier(member)
    var limit: LoopTimer?
    if case .waitUpTo(let time) = policy { limit = loop.schedule(after: time) { self.cut(member) } }
    defer { if let limit { loop.cancelTimer(limit) } }
    while places[id] != nil {
      // What was gathered in this turn may be all that there is no room for.
      member.flush()
      if try hasRoom(member, policy) { return true }
      Reached.mark("broadcast.waitsForMember")
      let waiter = LoopWaiter()
      turn = .waiting(for: id, waiter)
      member.attachBroadcast(waiter)
      defer {
        member.detachBroadcast(waiter)
        turn = .taken
      }
      try await waiter.wait(on: loop)
    }
    return false
  }

  private func takeTurn() async throws {
    guard case .free = turn else {
      Reached.mark("broadcast.writerQueued")
      let waiter = LoopWaiter()
      queue.append(waiter)
      guard await waiter.waitOrCancel(on: loop) else { return }
      Reached.mark("broadcast.queuedWriterCancelled")
      // Whoever was given the turn in the moment of its cancellation passes it on.
      if let index = queue.firstIndex(where: { $0 === waiter }) { queue.remove(at: index) } else { endTurn() }
      throw CancellationError()
    }
    turn = .taken
  }

  /// The next one's turn begins at once: nobody gets in between.
  private func endTurn() {
    if let next = queue.popFirst() { next.wake() } else { turn = .free }
  }
}

/// Does something when as many steps were made as it began with.
private final class Countdown: @unchecked Sendable {  // touched on one loop only
  private var count: Int
  private let done: () -> Void

  init(from count: Int, done: @escaping () -> Void) {
    self.count = count
    self.done = done
  }

  func step() {
    count -= 1
    if count == 0 { done() }
  }
}
