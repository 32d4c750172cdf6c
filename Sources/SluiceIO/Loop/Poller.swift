import CSluiceSystem
import CSluiceUV
import Dispatch
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// What may be done on a descriptor without waiting.
struct Readiness: OptionSet {
  let rawValue: UInt8
  static let readable = Readiness(rawValue: UInt8(SLUICE_READABLE))
  static let writable = Readiness(rawValue: UInt8(SLUICE_WRITABLE))
  /// Nobody is at the other side any more. (kqueue tells only where `writable` is awaited too.)
  static let gone = Readiness(rawValue: UInt8(SLUICE_GONE))
  /// The other side has ended its half, behind what may be unread. (kqueue tells only where `readable` is awaited too.)
  static let ended = Readiness(rawValue: UInt8(SLUICE_ENDED))
}

/// Waits for descriptors to become ready, for libuv and for other threads, on epoll or kqueue. On its loop's thread only, but for `wake`.
///
/// libuv's own watch of a descriptor is a handle of 160 bytes and a place in a list for each; here it is 24 bytes of a table, and what an
/// owner stops and starts again before the system tells of it needs no call.
///
/// Until it is opened, which takes descriptors of the system, it waits for other threads only.
@safe final class Poller {
  /// Called, in a turn of the loop, with what is ready, and whether the descriptor has failed: then it is not watched any more, and the next call on it says why.
  typealias Callback = @convention(c) (_ owner: UnsafeMutableRawPointer, _ ready: UInt8, _ hasFailed: Bool) -> Void

  /// What a wait was for, besides descriptors.
  struct Awakening: OptionSet {
    let rawValue: UInt8
    static let byThread = Awakening(rawValue: 1)
    static let byLibuv = Awakening(rawValue: 2)
  }

  @safe private struct Entry {
    /// A reference that is counted.
    var owner: UnsafeMutableRawPointer?
    var callback: Callback?
    /// Tells events of this watch from those of the ones before, of the same number.
    var generation: UInt32
    /// What the system tells of: at least what is awaited.
    var registered: Readiness
    var awaited: Readiness
    var isWatched: Bool
  }

  private var system = sluice_poller()
  /// Whether there is a `system`. It is opened under the lock, so that no wake goes astray meanwhile.
  private let isSystemOpen = Atomic<Bool>(false)
  private let opening = Mutex(())
  /// What other threads wake before there is one.
  private let semaphore = DispatchSemaphore(value: 0)
  private let events: UnsafeMutablePointer<sluice_event>
  static let eventCapacity = 512
  /// How many the last wait gave, and which of them is the next.
  @safe @exclusivity(unchecked) private var eventCount = 0
  @safe @exclusivity(unchecked) private var nextEvent = 0
  /// What the last wait was for, as far as `tellOwners` has got.
  private(set) var awakening: Awakening = []
  /// By descriptor; those that nobody watches are zero but for their generation.
  private var entries: UnsafeMutablePointer<Entry>
  private var entryCapacity: Int
  /// Descriptors that are watched.
  private(set) var count = 0
  /// Owners of what was closed while they may be running.
  private var formerOwners: [AnyObject] = []
  private var isClosed = false

  init() {
    unsafe events = .allocate(capacity: Self.eventCapacity)
    entryCapacity = 256
    unsafe entries = Self.allocate(entryCapacity)
  }

  var isOpen: Bool { isSystemOpen.load(ordering: .acquiring) }

  /// On the thread that waits, or before any does.
  /// - Parameter libuv: The descriptor that is readable when libuv has something to do.
  /// - Returns: a libuv status.
  func open(libuv: CInt) -> CInt {
    let status = opening.withLock { _ in
      var system = sluice_poller()
      let status = unsafe sluice_poller_open(&system, libuv)
      guard status == 0 else { return status }
      self.system = system
      isSystemOpen.store(true, ordering: .releasing)
      return 0
    }
    if status == 0, semaphore.wait(timeout: .now()) == .success { wake() }
    return status
  }

  deinit {
    close()
    unsafe events.deallocate()
    unsafe free(entries)
  }

  /// Nothing is watched any more, and nobody wakes it.
  func close() {
    if isClosed { return }
    isClosed = true
    releaseFormerOwners()
    if isOpen { sluice_poller_close(system) }
  }

  /// Ends the wait, or the next one. From any thread.
  func wake() {
    if !isOpen {
      let isDone = opening.withLock { _ in
        if isOpen { return false }
        semaphore.signal()
        return true
      }
      if isDone { return }
    }
    sluice_poller_wake(system)
  }

  /// Waits until something is ready: `tellOwners` is due then, until there are no more events.
  /// - Parameter milliseconds: At the most; -1: as long as it takes.
  func wait(milliseconds: CInt) {
    awakening = []
    nextEvent = 0
    guard isOpen else { return waitForThreads(milliseconds: milliseconds) }
    eventCount = unsafe Int(sluice_poller_wait(system, events, CInt(Self.eventCapacity), milliseconds))
  }

  private func waitForThreads(milliseconds: CInt) {
    eventCount = 0
    let end: DispatchTime = milliseconds < 0 ? .distantFuture : .now() + .milliseconds(Int(milliseconds))
    if semaphore.wait(timeout: end) == .success { awakening = .byThread }
  }

  /// Whether the last wait gave as many events as it can: there may be more.
  var isFull: Bool { eventCount == Self.eventCapacity }

  /// Whether there are events of the last wait whose owners were not told.
  var hasEvents: Bool { nextEvent < eventCount }

  /// Tells the owners of what is ready, of some events at the most.
  func tellOwners(ofEvents limit: Int) {
    let end = min(eventCount, nextEvent + limit)
    while nextEvent < end {
      let event = unsafe events + nextEvent
      nextEvent += 1
      let token = unsafe sluice_event_token(event)
      switch token {
      case SLUICE_TOKEN_THREAD: awakening.insert(.byThread)
      case SLUICE_TOKEN_LIBUV: awakening.insert(.byLibuv)
      default: unsafe tell(token, sluice_event_flags(event))
      }
    }
  }

  private func tell(_ token: UInt64, _ flags: UInt32) {
    let descriptor = CInt(truncatingIfNeeded: token)
    let entry = unsafe entries + Int(descriptor)
    guard unsafe entry.pointee.generation == UInt32(truncatingIfNeeded: token >> 32) else { return }
    let awaited = unsafe entry.pointee.awaited
    let hasFailed = flags & UInt32(SLUICE_FAILED) != 0
    let ready = hasFailed ? awaited : awaited.intersection(Readiness(rawValue: UInt8(truncatingIfNeeded: flags)))
    if hasFailed {
      unsafe entry.pointee.awaited = []
      _ = register(descriptor, [])
    } else if ready.isEmpty {
      // The owner has lost its interest since the last time.
      _ = register(descriptor, awaited)
    }
    if !ready.isEmpty, let owner = unsafe entry.pointee.owner {
      unsafe entry.pointee.callback?(owner, ready.rawValue, hasFailed)
    }
  }

  /// Whether there are owners of what was closed, to be released when none of them can be running.
  var hasFormerOwners: Bool { !formerOwners.isEmpty }

  func releaseFormerOwners() {
    // Their ends may remove more.
    let owners = formerOwners
    formerOwners = []
    withExtendedLifetime(owners) {}
  }
}

// MARK: the watches of descriptors

extension Poller {
  /// Begins to watch a descriptor, for nothing yet.
  /// - Returns: a libuv status: EPERM if it can't be waited for, as a file, EEXIST if it is watched already.
  func add(_ descriptor: CInt) -> CInt {
    let index = Int(descriptor)
    if index >= entryCapacity { grow(toHold: index) }
    if unsafe entries[index].isWatched { return UV_EEXIST.rawValue }
    // Most are read first: then this is the only call.
    let status = register(descriptor, .readable)
    guard status == 0 else { return status }
    unsafe entries[index].isWatched = true
    count += 1
    return 0
  }

  /// - Parameter owner: Is kept until it is removed, or another is set.
  func setOwner(_ owner: AnyObject, of descriptor: CInt, _ callback: Callback) {
    unsafe entries[Int(descriptor)].owner = Unmanaged.passRetained(owner).toOpaque()
    unsafe entries[Int(descriptor)].callback = callback
  }

  func removeOwner(of descriptor: CInt) {
    guard let owner = unsafe entries[Int(descriptor)].owner else { return }
    unsafe entries[Int(descriptor)].owner = nil
    formerOwners.append(unsafe Unmanaged<AnyObject>.fromOpaque(owner).takeRetainedValue())
  }

  /// Has the owner told of this too.
  /// - Returns: a libuv status.
  @inline(__always)
  func start(_ descriptor: CInt, _ readiness: Readiness) -> CInt {
    let entry = unsafe entries + Int(descriptor)
    let awaited = unsafe entry.pointee.awaited.union(readiness)
    unsafe entry.pointee.awaited = awaited
    return unsafe entry.pointee.registered.isSuperset(of: awaited) ? 0 : register(descriptor, awaited)
  }

  /// The same from when the system tells of the descriptor next: until then it takes no call.
  func startLater(_ descriptor: CInt, _ readiness: Readiness) {
    unsafe entries[Int(descriptor)].awaited.formUnion(readiness)
  }

  @inline(__always)
  func awaits(_ descriptor: CInt, _ readiness: Readiness) -> Bool {
    unsafe entries[Int(descriptor)].awaited.isSuperset(of: readiness)
  }

  @inline(__always)
  func stop(_ descriptor: CInt, _ readiness: Readiness) {
    unsafe entries[Int(descriptor)].awaited.subtract(readiness)
  }

  func remove(_ descriptor: CInt) {
    removeOwner(of: descriptor)
    _ = register(descriptor, [])
    let entry = unsafe entries + Int(descriptor)
    unsafe entry.pointee = unsafe Entry(
      owner: nil, callback: nil, generation: entry.pointee.generation &+ 1, registered: [], awaited: [],
      isWatched: false)
    count -= 1
  }

  /// Whom the watched descriptors belong to.
  var owners: [AnyObject] {
    unsafe UnsafeBufferPointer(start: entries, count: entryCapacity).compactMap {
      unsafe $0.owner.map { unsafe Unmanaged<AnyObject>.fromOpaque($0).takeUnretainedValue() }
    }
  }

  /// Has the system tell of this and nothing else; of an other side that has gone it tells as long as it is asked for anything.
  private func register(_ descriptor: CInt, _ readiness: Readiness) -> CInt {
    let entry = unsafe entries + Int(descriptor)
    let readiness = readiness.isEmpty ? readiness : readiness.union(.gone)
    if unsafe entry.pointee.registered == readiness { return 0 }
    let token = unsafe UInt64(entry.pointee.generation) << 32 | UInt64(UInt32(bitPattern: descriptor))
    let status = unsafe sluice_poller_watch(
      system, descriptor, UInt32(entry.pointee.registered.rawValue), UInt32(readiness.rawValue), token)
    if status == 0 || readiness.isEmpty { unsafe entry.pointee.registered = readiness }
    return status
  }

  private func grow(toHold index: Int) {
    var capacity = entryCapacity
    while capacity <= index { capacity *= 2 }
    let grown = unsafe Self.allocate(capacity)
    unsafe grown.update(from: entries, count: entryCapacity)
    unsafe free(entries)
    unsafe entries = grown
    entryCapacity = capacity
  }

  /// Entries that nobody watches. Of many, the system gives only those that are used.
  private static func allocate(_ capacity: Int) -> UnsafeMutablePointer<Entry> {
    // As every other allocation does.
    guard let memory = unsafe calloc(capacity, MemoryLayout<Entry>.stride) else { preconditionFailure("out of memory") }
    return unsafe memory.bindMemory(to: Entry.self, capacity: capacity)
  }
}
