import CSluiceSystem
import CSluiceUV
import SluiceStreams

/// An open descriptor that a loop watches. On the loop only.
///
/// The system tells of a readiness again and again while it lasts; what the owner has no use for, it stops. The owner lives
/// until the watch is closed, which it is at the latest when nobody has it any more.
@safe struct DescriptorWatch: ~Copyable {
  private let poller: Poller
  /// -1 once it is closed: the number may be another file's soon.
  private(set) var descriptor: CInt
  /// Whether it stays open in the end.
  private var isBorrowed: Bool

  /// Takes over a descriptor; closes it if it throws, unless it is borrowed.
  /// - Parameter blocks: Whether calls on it may wait; they do not from now on. Not for what others share: they do not expect that.
  /// - Throws: `IOError`: ECANCELED when the loop was stopped, EPERM if the descriptor can't be waited for, as a file, EBUSY, and then it is left
  ///   open, if the loop watches it already for somebody else.
  init(
    _ descriptor: CInt, isBorrowed: Bool = false, blocks: Bool = false, on loop: UVLoop, operation: String,
    subject: String
  ) throws(IOError) {
    do throws(IOError) {
      let poller = try loop.poller(for: operation, subject)
      var status = blocks ? sluice_unblock(descriptor) : 0
      if status == 0 { status = poller.add(descriptor) }
      if status == UV_EEXIST.rawValue {
        throw IOError(
          operation: operation, subject: subject, code: "EBUSY",
          reason: "the descriptor is in use by another stream of this loop")
      }
      guard status == 0 else { throw IOError(operation, subject, status: status) }
      self.init(descriptor, isBorrowed: isBorrowed, poller)
    } catch {
      if !isBorrowed && error.code != "EBUSY" { _ = closeDescriptor(descriptor) }
      throw error
    }
  }

  /// Borrows a descriptor.
  /// - Returns: nil if it can't be waited for, as a file.
  /// - Throws: as `init`, but for EPERM.
  static func borrow(
    _ descriptor: CInt, on loop: UVLoop, operation: String, subject: String
  ) throws(IOError) -> DescriptorWatch? {
    do {
      return try DescriptorWatch(descriptor, isBorrowed: true, on: loop, operation: operation, subject: subject)
    } catch {
      if error.code == "EPERM" { return nil }
      throw error
    }
  }

  var isClosed: Bool { descriptor < 0 }

  /// Takes a borrowed descriptor over: it is closed in the end.
  mutating func adopt() { isBorrowed = false }

  /// Says whom it belongs to, once.
  mutating func belong(to owner: some LoopResident, _ callback: Poller.Callback) {
    unsafe poller.setOwner(owner, of: descriptor, callback)
  }

  /// Has the owner told of this too.
  /// - Returns: a libuv status.
  mutating func start(_ readiness: Readiness) -> CInt {
    isClosed ? 0 : poller.start(descriptor, readiness)
  }

  /// Has the owner told of this too when the system has told of something that the owner has no use for.
  mutating func startLater(_ readiness: Readiness) {
    if !isClosed { poller.startLater(descriptor, readiness) }
  }

  /// Whether the owner is told of this.
  func awaits(_ readiness: Readiness) -> Bool { !isClosed && poller.awaits(descriptor, readiness) }

  mutating func stop(_ readiness: Readiness) {
    if !isClosed { poller.stop(descriptor, readiness) }
  }

  /// What another owner can take over; this one is closed then.
  mutating func handOver() -> DescriptorWatch {
    stop([.readable, .writable])
    poller.removeOwner(of: descriptor)
    defer { descriptor = -1 }
    return DescriptorWatch(descriptor, isBorrowed: isBorrowed, poller)
  }

  private init(_ descriptor: CInt, isBorrowed: Bool, _ poller: Poller) {
    self.descriptor = descriptor
    self.isBorrowed = isBorrowed
    self.poller = poller
  }

  /// - Parameter resets: Whether the peer of a TCP connection is told that it did not get everything.
  mutating func close(resets: Bool = false) {
    if isClosed { return }
    if resets { sluice_reset_on_close(descriptor) }
    end()
    descriptor = -1
  }

  deinit { if !isClosed { end() } }

  private func end() {
    poller.remove(descriptor)
    if !isBorrowed { _ = closeDescriptor(descriptor) }
  }
}
