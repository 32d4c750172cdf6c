import DequeModule
import Synchronization

/// A sink that can take part in a `Broadcast`.
public protocol BroadcastMember: PolledWritableStream, AnyObject {
  /// An element in the form that all members can share.
  associatedtype Prepared: Sendable
  /// Does once what would else be done for each member.
  static func prepare(_ element: Input) throws -> Prepared
  /// As `push`, with an element that was prepared. On the loop only.
  func push(prepared: Prepared) throws
  /// It had no room, and missed an element. On the loop only.
  func didMiss()
}

/// One sink for many: what is written to it goes to each of its members, and is prepared (framed, put into words) once.
///
/// ```swift
/// let room = WebSocketBroadcast()
/// try await WebSocket.serve("ws://127.0.0.1:8000") { ws in
///   try await room.serve(ws) {
///     for try await message in ws { try await room.write(message) }
///   }
/// }
/// ```
/// Members may live on several loops, and any number of tasks may write. Elements of one writer reach every member in order.
public final class Broadcast<Member: BroadcastMember>: WritableStream {
  public typealias Input = Member.Input

  /// What happens to a member that has no room for an element.
  public enum SlowPolicy: Sendable, Hashable {
    /// All wait for it.
    case hold
    /// All wait for it; one that makes no room for so long is aborted, with `StreamError.tooSlow`.
    case holdUpTo(Duration)
    /// It misses the element.
    case drop
    /// It is aborted, with `StreamError.tooSlow`.
    case disconnect
  }

  private struct State {
    var groups: [ObjectIdentifier: MembersOfLoop<Member>] = [:]
    var count = 0
    var isClosed = false
  }
  private let state = Mutex(State())
  private let policy: SlowPolicy

  /// - Parameter policy: Default: a member that is too slow is cut, and holds nobody.
  public init(whenSlow policy: SlowPolicy = .disconnect) {
    self.policy = policy
  }

  /// Members at this moment.
  public var count: Int { state.withLock { $0.count } }

  /// Lets a sink take part while `body` runs.
  /// - Throws: `StreamError.closed` if the broadcast is, and what `body` throws.
  public func serve(_ member: Member, _ body: () async throws -> Void) async throws {
    let group = try state.withLock { state in
      if state.isClosed { throw StreamError.closed }
      state.count += 1
      let id = ObjectIdentifier(member.loop)
      let group = state.groups[id] ?? MembersOfLoop(member.loop)
      state.groups[id] = group
      return group
    }
    group.loop.perform { group.members[ObjectIdentifier(member)] = member }
    defer {
      state.withLock { $0.count -= 1 }
      group.loop.perform { group.members[ObjectIdentifier(member)] = nil }
    }
    try await body()
  }

  /// Gives an element to all. Returns when each that it is for has it.
  /// - Throws: What is wrong with the element; `StreamError.closed`. That a member has left is no error.
  public func write(_ element: Input) async throws {
    try await write(contentsOf: CollectionOfOne(element))
  }

  /// Gives several elements to all, in order: as `write` for each, with one hop to a loop for as many as there is room for.
  /// - Throws: As `write`, before any is given.
  public func write(contentsOf elements: some Collection<Input>) async throws {
    let prepared = try elements.map(Member.prepare)
    for group in try openGroups() {
      await group.write(prepared, policy)
    }
  }

  private func openGroups() throws -> [MembersOfLoop<Member>] {
    try state.withLock { state in
      if state.isClosed { throw StreamError.closed }
      return Array(state.groups.values)
    }
  }

  /// Closes all members, and takes no more.
  public func close() async throws {
    for group in endedGroups() {
      for member in try await group.loop.run({ Array(group.members.values) }) { try? await member.close() }
    }
  }

  public func abort(_ reason: any Error) {
    for group in endedGroups() {
      group.loop.perform {
        for member in group.members.values { member.abort(reason) }
      }
    }
  }

  private func endedGroups() -> [MembersOfLoop<Member>] {
    state.withLock { state in
      state.isClosed = true
      defer { state.groups = [:] }
      return Array(state.groups.values)
    }
  }
}

/// The members that live on one loop.
private final class MembersOfLoop<Member: BroadcastMember>: @unchecked Sendable {  // touched on the loop only
  let loop: any Loop
  var members: [ObjectIdentifier: Member] = [:]
  /// A writer waits for members that are slow; the others wait for their turn.
  private var isWaiting = false
  private var turns = Deque<CheckedContinuation<Void, Never>>()

  init(_ loop: any Loop) { self.loop = loop }

  func write(_ elements: [Member.Prepared], _ policy: Broadcast<Member>.SlowPolicy) async {
    await withTaskExecutorPreference(loop) {
      let patience: Duration?
      switch policy {
      case .hold: patience = nil
      case .holdUpTo(let limit): patience = limit
      case .drop, .disconnect:
        for element in elements { _ = give(element, policy) }
        return
      }
      await beginWaiting()
      defer { endWaiting() }
      for element in elements {
        for member in give(element, policy) {
          // One that is leaving is not waited for any more.
          do { try await waitForRoom(of: member, patience) } catch { continue }
          push(element, to: member)
        }
      }
    }
  }

  private func waitForRoom(of member: Member, _ patience: Duration?) async throws {
    let timer = patience.map { limit in
      loop.schedule(after: limit) { member.abort(StreamError.tooSlow(bufferedBytes: member.queuedByteCount)) }
    }
    defer { if let timer { loop.cancelTimer(timer) } }
    try await member.waitForRoom()
  }

  private func beginWaiting() async {
    if isWaiting { return await withCheckedContinuation { turns.append($0) } }
    isWaiting = true
  }

  private func endWaiting() {
    if let next = turns.popFirst() { next.resume() } else { isWaiting = false }
  }

  /// - Returns: the members that have to be waited for.
  private func give(_ element: Member.Prepared, _ policy: Broadcast<Member>.SlowPolicy) -> [Member] {
    var slow: [Member] = []
    for member in members.values {
      // Whoever can't be written to is leaving.
      guard var hasRoom = try? member.hasRoom() else { continue }
      if !hasRoom {
        // What this turn has gathered may leave at once: nobody would tell of that.
        member.flush()
        hasRoom = (try? member.hasRoom()) ?? false
      }
      if hasRoom {
        push(element, to: member)
        continue
      }
      switch policy {
      case .hold, .holdUpTo: slow.append(member)
      case .drop: member.didMiss()
      case .disconnect: member.abort(StreamError.tooSlow(bufferedBytes: member.queuedByteCount))
      }
    }
    return slow
  }

  private func push(_ element: Member.Prepared, to member: Member) {
    // What else is written in this turn leaves with it.
    let isScheduled = member.needsFlush
    try? member.push(prepared: element)
    if !isScheduled && member.needsFlush { loop.atEndOfTurn(member) }
  }
}
