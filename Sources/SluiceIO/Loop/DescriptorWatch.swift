import CSluiceUV

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// What may be done on a descriptor without waiting.
struct Readiness: OptionSet {
  /// As libuv's events.
  let rawValue: UInt8
  static let readable = Readiness(rawValue: UInt8(UV_READABLE.rawValue))
  static let writable = Readiness(rawValue: UInt8(UV_WRITABLE.rawValue))
}

/// An open descriptor that a loop watches, on libuv's `uv_poll_t`. On the loop only.
///
/// The system tells of a readiness again and again while it lasts; what the owner has no use for, it stops. The owner lives
/// until the watch is closed, which it is at the latest when nobody has it any more.
@safe struct DescriptorWatch: ~Copyable {
  /// -1 once it is closed: the number may be another file's soon.
  private(set) var descriptor: CInt
  /// Whether it stays open in the end.
  private let isBorrowed: Bool
  /// What the owner is told of.
  private(set) var awaited: Readiness = []
  private let handle: UnsafeMutablePointer<uv_poll_t>

  /// Takes over a descriptor, which does not block from now on; closes it if it throws, unless it is borrowed.
  /// - Throws: `IOError`: ECANCELED when the loop was stopped, EPERM if the descriptor can't be waited for, as a file.
  init(
    _ descriptor: CInt, isBorrowed: Bool = false, on loop: UVLoop, operation: String, subject: String
  ) throws(IOError) {
    let handle = UnsafeMutablePointer<uv_poll_t>.allocate(capacity: 1)
    do throws(IOError) {
      let uv = try unsafe loop.handle(for: operation, subject)
      let status = unsafe uv_poll_init(uv, handle, descriptor)
      guard status == 0 else { throw IOError(operation, subject, status: status) }
    } catch {
      unsafe handle.deallocate()
      if !isBorrowed { _ = closeDescriptor(descriptor) }
      throw error
    }
    unsafe self.init(descriptor, isBorrowed: isBorrowed, handle)
  }

  var isClosed: Bool { descriptor < 0 }

  /// Says whom it belongs to, once.
  /// - Parameter callback: Gets the handle, whose `data` is the owner, and a libuv status. If that is not 0, the owner is told of
  ///   nothing any more (`didFail`), and the next call on the descriptor says why.
  mutating func belong(to owner: some LoopResident, _ callback: uv_poll_cb) {
    unsafe handle.pointee.data = Unmanaged.passRetained(owner).toOpaque()
    unsafe handle.pointee.poll_cb = callback
  }

  /// Has the owner told of this too.
  /// - Returns: a libuv status.
  mutating func start(_ readiness: Readiness) -> CInt {
    if isClosed || awaited.isSuperset(of: readiness) { return 0 }
    awaited.formUnion(readiness)
    return restart()
  }

  mutating func stop(_ readiness: Readiness) {
    if isClosed || awaited.isDisjoint(with: readiness) { return }
    awaited.subtract(readiness)
    // It was started before, so that it can be again.
    if awaited.isEmpty { unsafe uv_poll_stop(handle) } else { _ = restart() }
  }

  private func restart() -> CInt { unsafe uv_poll_start(handle, CInt(awaited.rawValue), handle.pointee.poll_cb) }

  mutating func didFail() { awaited = [] }

  /// What another owner can take over; this one is closed then.
  mutating func handOver() -> DescriptorWatch {
    stop([.readable, .writable])
    unsafe Self.release(handle)
    defer { descriptor = -1 }
    return unsafe DescriptorWatch(descriptor, isBorrowed: isBorrowed, handle)
  }

  private init(_ descriptor: CInt, isBorrowed: Bool, _ handle: UnsafeMutablePointer<uv_poll_t>) {
    self.descriptor = descriptor
    self.isBorrowed = isBorrowed
    unsafe self.handle = handle
    unsafe handle.pointee.data = nil
  }

  private static func release(_ handle: UnsafeMutablePointer<uv_poll_t>) {
    if let owner = unsafe handle.pointee.data { unsafe Unmanaged<AnyObject>.fromOpaque(owner).release() }
  }

  /// - Parameter resets: Whether the peer of a TCP connection is told that it did not get everything.
  mutating func close(resets: Bool = false) {
    if isClosed { return }
    if resets { sluice_reset_on_close(descriptor) }
    unsafe Self.close(handle, descriptor, isBorrowed: isBorrowed)
    descriptor = -1
  }

  deinit { if !isClosed { unsafe Self.close(handle, descriptor, isBorrowed: isBorrowed) } }

  private static func close(_ handle: UnsafeMutablePointer<uv_poll_t>, _ descriptor: CInt, isBorrowed: Bool) {
    unsafe uv_close(UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_handle_t.self)) { closed in
      let handle = unsafe UnsafeMutableRawPointer(closed!).assumingMemoryBound(to: uv_poll_t.self)
      unsafe DescriptorWatch.release(handle)
      unsafe handle.deallocate()
    }
    if !isBorrowed { _ = closeDescriptor(descriptor) }
  }
}
