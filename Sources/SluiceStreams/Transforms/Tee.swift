import DequeModule
import Synchronization

/// What a branch of a tee does while it is slower than the others.
///
/// Limits are bytes of what the branch holds: an element counts its payload, and 160 bytes for its place in the queue. Elements that are not
/// bytes, text or messages count 1 each.
public enum BranchPolicy: Hashable, Sendable {
  /// The others wait for it, from one element to the next.
  case wait
  /// The others wait for it once this many bytes are unread.
  case buffer(Int)
  /// Its oldest unread elements go when more than this many bytes are unread.
  case dropOldest(Int)
  /// What comes while this many bytes are unread is not given to it.
  case dropNewest(Int)
  /// It fails with `StreamError.tooSlow` when more than this many bytes are unread.
  case disconnect(Int)
}

extension ReadableStream {
  /// This stream, to be read several times: every branch gives every element.
  ///
  /// The source is read when a branch that has nothing unread is read, and only while no branch with the policy `wait` or
  /// `buffer` holds too much. A branch that is cancelled is left out from then on; with the last one, the source is cancelled.
  ///
  /// ```swift
  /// let branches = ws.tee(.wait, .dropOldest(1 << 20))
  /// ```
  /// - Parameter policies: One per branch.
  public func tee(_ policies: BranchPolicy...) -> [some ReadableStream<Output>] {
    let tee = Tee(self, policies)
    return policies.indices.map { TeeBranch(tee: tee, index: $0) }
  }
}

/// One branch of a tee.
struct TeeBranch<Source: ReadableStream>: ReadableStream {
  typealias Output = Source.Output

  let tee: Tee<Source>
  let index: Int

  func read() async throws -> Source.Output? { try await tee.read(index) }
  func cancel(_ reason: (any Error)?) { tee.cancel(index, reason) }
}

/// What the branches share: a state machine behind a lock, and the one read of the source that is under way.
final class Tee<Source: ReadableStream>: Sendable {
  private let source: Source
  private let state: Mutex<TeeState<Source.Output>>

  init(_ source: Source, _ policies: [BranchPolicy]) {
    self.source = source
    state = Mutex(TeeState(policies))
  }

  func read(_ index: Int) async throws -> Source.Output? {
    try state.withLock { try $0.beginRead(index) }
    defer { wake(state.withLock { $0.endRead(index) }) }
    while true {
      let (action, waiters) = state.withLock { $0.next(for: index) }
      wake(waiters)
      switch action {
      case .give(let element): return element
      case .end: return nil
      case .fail(let error): throw error
      case .pull: try await pull()
      case .wait: try await waitForNews(index)
      }
    }
  }

  /// Reads the source for all branches.
  private func pull() async throws {
    do {
      let element = try await source.read()
      wake(state.withLock { $0.didPull(element) })
    } catch {
      // A reader that was cancelled leaves the source as it was: another branch pulls.
      let isOurs = error is CancellationError && Task.isCancelled
      wake(state.withLock { isOurs ? $0.didNotPull() : $0.didFail(error) })
      if isOurs { throw error }
    }
  }

  private func waitForNews(_ index: Int) async throws {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let waits = state.withLock { !Task.isCancelled && $0.suspend(index, continuation) }
        if !waits { continuation.resume() }
      }
    } onCancel: {
      wake(state.withLock { $0.takeWaiter(index) })
    }
    try Task.checkCancellation()
  }

  func cancel(_ index: Int, _ reason: (any Error)?) {
    let (waiters, isLast) = state.withLock { $0.cancel(index) }
    wake(waiters)
    if isLast { source.cancel(reason) }
  }

  private func wake(_ waiters: [CheckedContinuation<Void, Never>]) {
    for waiter in waiters { waiter.resume() }
  }
}

/// Decides what each branch gets and who reads the source; knows no task and no lock.
struct TeeState<Element: Sendable> {
  private struct Branch {
    let policy: BranchPolicy
    var unread = Deque<Element>()
    var cost = 0
    var isReading = false
    var isCancelled = false
    var failure: StreamError?
    var waiter: CheckedContinuation<Void, Never>?

    /// Whether the source must not be read on its account.
    var isFull: Bool {
      if isCancelled || failure != nil { return false }
      return switch policy {
      case .wait: cost > 0
      case .buffer(let limit): cost >= Swift.max(limit, 1)
      case .dropOldest, .dropNewest, .disconnect: false
      }
    }
  }
  private enum Phase {
    case open(isPulling: Bool)
    case ended
    case failed(any Error)
  }
  enum Action {
    case give(Element)
    case end
    case fail(any Error)
    case pull
    case wait
  }
  typealias Waiters = [CheckedContinuation<Void, Never>]

  private var branches: [Branch]
  private var phase = Phase.open(isPulling: false)

  init(_ policies: [BranchPolicy]) { branches = policies.map { Branch(policy: $0) } }

  mutating func beginRead(_ index: Int) throws {
    if branches[index].isReading { throw StreamError.concurrentRead }
    branches[index].isReading = true
  }

  mutating func endRead(_ index: Int) -> Waiters {
    branches[index].isReading = false
    return []
  }

  mutating func next(for index: Int) -> (Action, Waiters) {
    if branches[index].isCancelled { return (.end, []) }
    if let element = branches[index].unread.popFirst() {
      let wasFull = isAnyFull
      branches[index].cost -= heldCost(of: element)
      return (.give(element), wasFull && !isAnyFull ? takeAllWaiters() : [])
    }
    if let failure = branches[index].failure { return (.fail(failure), []) }
    switch phase {
    case .ended: return (.end, [])
    case .failed(let error): return (.fail(error), [])
    case .open(isPulling: true): return (.wait, [])
    case .open(isPulling: false):
      if isAnyFull {
        Reached.mark("tee.waitsForBranch")
        return (.wait, [])
      }
      phase = .open(isPulling: true)
      return (.pull, [])
    }
  }

  private var isAnyFull: Bool { branches.contains { $0.isFull } }

  /// - Returns: false if there is news already.
  mutating func suspend(_ index: Int, _ continuation: CheckedContinuation<Void, Never>) -> Bool {
    let branch = branches[index]
    guard branch.unread.isEmpty, branch.failure == nil, !branch.isCancelled else { return false }
    guard case .open(let isPulling) = phase, isPulling || isAnyFull else { return false }
    branches[index].waiter = continuation
    return true
  }

  mutating func didPull(_ element: Element?) -> Waiters {
    phase = element == nil ? .ended : .open(isPulling: false)
    if let element {
      let cost = heldCost(of: element)
      for index in branches.indices { give(element, cost, to: index) }
    }
    return takeAllWaiters()
  }

  private mutating func give(_ element: Element, _ cost: Int, to index: Int) {
    if branches[index].isCancelled || branches[index].failure != nil { return }
    switch branches[index].policy {
    case .wait, .buffer: break
    case .dropNewest(let limit):
      if branches[index].cost >= Swift.max(limit, 1) {
        Reached.mark("tee.droppedNewest")
        return
      }
    case .disconnect(let limit):
      if branches[index].cost + cost > limit && branches[index].cost > 0 {
        Reached.mark("tee.tooSlow")
        branches[index].failure = .tooSlow(bufferedBytes: branches[index].cost)
        return
      }
    case .dropOldest(let limit):
      while branches[index].cost + cost > limit, let oldest = branches[index].unread.popFirst() {
        Reached.mark("tee.droppedOldest")
        branches[index].cost -= heldCost(of: oldest)
      }
    }
    branches[index].unread.append(element)
    branches[index].cost += cost
  }

  mutating func didNotPull() -> Waiters {
    Reached.mark("tee.pullCancelled")
    phase = .open(isPulling: false)
    return takeAllWaiters()
  }

  mutating func didFail(_ error: any Error) -> Waiters {
    phase = .failed(error)
    return takeAllWaiters()
  }

  /// - Returns: whom to wake, and whether no branch is left.
  mutating func cancel(_ index: Int) -> (Waiters, isLast: Bool) {
    if branches[index].isCancelled { return ([], false) }
    Reached.mark("tee.branchCancelled")
    branches[index].isCancelled = true
    branches[index].unread.removeAll()
    branches[index].cost = 0
    return (takeAllWaiters(), branches.allSatisfy { $0.isCancelled })
  }

  mutating func takeWaiter(_ index: Int) -> Waiters {
    branches[index].waiter.take().map { [$0] } ?? []
  }

  private mutating func takeAllWaiters() -> Waiters {
    branches.indices.flatMap { takeWaiter($0) }
  }
}
