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
    let prepared = try Member.prepare(element)
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

  /// Closes all members side by side, and takes no more: it takes as long as the slowest of them may (`closeTimeout`), however many they are.
  /// - Throws: `CancellationError`; the members that are not closed yet are aborted then.
  public func close() async throws {
    let groups = endedGroups()
    await withTaskCancellationHandler {
      await withDiscardingTaskGroup { tasks in
        for group in groups { tasks.addTask { await group.close() } }
      }
    } onCancel: {
      for group in groups { group.abort(CancellationError()) }
    }
    try Task.checkCancellation()
  }

  public func abort(_ reason: any Error) {
    for group in endedGroups() { group.abort(reason) }
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

  func write(_ element: Member.Prepared, _ policy: Broadcast<Member>.SlowPolicy) async {
    await withTaskExecutorPreference(loop) {
      guard policy == .hold else {
        _ = give(element, policy)
        return
      }
      await beginWaiting()
      defer { endWaiting() }
      for member in give(element, policy) {
        // One that is leaving is not waited for any more.
        do { try await member.waitForRoom() } catch { continue }
        push(element, to: member)
      }
    }
  }

  /// Closes all at once, and waits until each is closed or has failed.
  func close() async {
    await withCheckedContinuation { continuation in
      loop.perform {
        let open = Countdown(from: self.members.count + 1) { continuation.resume() }
        for member in Array(self.members.values) { member.closeWhenFlushed { _ in open.step() } }
        open.step()
      }
    }
  }

  func abort(_ reason: any Error) {
    loop.perform {
      for member in Array(self.members.values) { member.abort(reason) }
    }
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
      guard let hasRoom = try? member.hasRoom() else { continue }
      if hasRoom {
        push(element, to: member)
        continue
      }
      switch policy {
      case .hold: slow.append(member)
      case .drop: break
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
