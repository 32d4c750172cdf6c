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
  /// Whether there is room for what a broadcast sends. Default: `hasRoom`.
  func hasRoomForBroadcast() throws -> Bool
  /// Registers one who waits for room beside the writer, and is woken when that would be. On the loop only.
  func attachBroadcast(_ waker: any Waker)
  func detachBroadcast(_ waker: any Waker)
}

extension BroadcastMember {
  public func hasRoomForBroadcast() throws -> Bool { try hasRoom() }
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

  /// What happens to a member that has no room for an element: whose queue is above its own high watermark. The names are those
  /// of `BranchPolicy`.
  public enum SlowPolicy: Sendable, Hashable {
    /// All wait for it.
    case wait
    /// All wait for it; one that makes no room for so long is aborted, with `StreamError.tooSlow`.
    case waitUpTo(Duration)
    /// All wait for it once so many bytes are queued for it.
    case buffer(Int)
    /// It misses the element.
    case dropNewest
    /// It is aborted, with `StreamError.tooSlow`.
    case disconnect
  }

  private struct Group {
    let members: MembersOfLoop<Member>
    var count = 0
  }

  private struct State {
    /// By loop, while there are members on it.
    var groups: [ObjectIdentifier: Group] = [:]
    var isClosed = false

    mutating func join(_ loop: any Loop) throws -> MembersOfLoop<Member> {
      if isClosed { throw StreamError.closed }
      var group = groups[ObjectIdentifier(loop)] ?? Group(members: MembersOfLoop(loop))
      group.count += 1
      groups[ObjectIdentifier(loop)] = group
      return group.members
    }

    mutating func leave(_ members: MembersOfLoop<Member>) {
      let id = ObjectIdentifier(members.loop)
      guard let group = groups[id], group.members === members else { return }
      groups[id]?.count -= 1
      if group.count == 1 { groups[id] = nil }
    }
  }
  private let state = Mutex(State())
  private let policy: SlowPolicy

  /// - Parameter policy: Default: a member that is too slow is cut, and holds nobody.
  public init(whenSlow policy: SlowPolicy = .disconnect) {
    self.policy = policy
  }

  /// Members at this moment.
  public var count: Int { state.withLock { $0.groups.values.reduce(0) { $0 + $1.count } } }

  /// Lets a sink take part while `body` runs.
  /// - Throws: `StreamError.closed` if the broadcast is, and what `body` throws.
  public func serve(_ member: Member, _ body: () async throws -> Void) async throws {
    let group = try state.withLock { try $0.join(member.loop) }
    group.loop.perform { group.add(member) }
    defer {
      state.withLock { $0.leave(group) }
      group.loop.perform { group.remove(member) }
    }
    try await body()
  }

  /// Gives an element to all. Returns when each that it is for has it.
  /// - Throws: What is wrong with the element; `StreamError.closed`; `CancellationError` when the task is cancelled while it waits
  ///   for slow members: those miss the element. A member that has left is not an error.
  public func write(_ element: Input) async throws {
    try await write(contentsOf: CollectionOfOne(element))
  }

  /// Gives several elements to all, in order: as `write` for each, with one hop to a loop for as many as there is room for.
  /// - Throws: As `write`, before any is given.
  public func write(contentsOf elements: some Collection<Input>) async throws {
    let prepared = try elements.map(Member.prepare)
    for group in try openGroups() {
      try await group.write(prepared, policy)
    }
  }

  private func openGroups() throws -> [MembersOfLoop<Member>] {
    try state.withLock { state in
      if state.isClosed { throw StreamError.closed }
      return state.groups.values.map(\.members)
    }
  }

  /// Closes all members side by side, and takes no more: it takes as long as the slowest of them may (`closeTimeout`), however many they are.
  /// - Throws: `CancellationError`; the members that are not closed yet are aborted then.
  public func close() async throws { try await closeAll(after: nil) }

  /// As `close`, and each member tells its peer of the failure.
  public func close(after failure: any Error) async throws { try await closeAll(after: failure) }

  private func closeAll(after failure: (any Error)?) async throws {
    let groups = endedGroups()
    await withTaskCancellationHandler {
      await withDiscardingTaskGroup { tasks in
        for group in groups { tasks.addTask { await group.close(after: failure) } }
      }
    } onCancel: {
      for group in groups { group.abort(CancellationError()) }
    }
    try Task.checkCancellation()
  }

  public func abort(_ reason: any Error) {
    for group in endedGroups() { group.abort(reason) }
  }

  /// They stay until their members have left: a second `close` waits for them as the first does, and `abort` ends both.
  private func endedGroups() -> [MembersOfLoop<Member>] {
    state.withLock { state in
      state.isClosed = true
      return state.groups.values.map(\.members)
    }
  }
}
