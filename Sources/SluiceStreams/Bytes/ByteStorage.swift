/// The allocation behind `Bytes` and `BytesBuilder`: raw memory with a reference count; or memory of somebody else's, held as long as this lives.
///
/// Whoever holds the only reference may write, but for foreign memory, which is only read; a part that a `Bytes` shows to others is never written again.
@usableFromInline
@safe package final class ByteStorage: @unchecked Sendable {
  @usableFromInline let base: UnsafeMutablePointer<UInt8>
  @usableFromInline package let capacity: Int
  /// What foreign memory stays with; nil where it was allocated here.
  private let owner: AnyObject?

  @usableFromInline static let empty = ByteStorage(capacity: 0)

  @usableFromInline
  package init(capacity: Int) {
    self.capacity = LargeBuffers.roundedSize(capacity)
    unsafe base = LargeBuffers.allocate(self.capacity)
    owner = nil
  }

  /// - Parameters:
  ///   - memory: Does not change, and stays, while `owner` lives, which may be let go of on any thread.
  ///   - capacity: Bytes that `owner` holds in all.
  init(foreign memory: UnsafeRawPointer, capacity: Int, owner: AnyObject) {
    self.capacity = capacity
    unsafe base = UnsafeMutablePointer(mutating: memory.assumingMemoryBound(to: UInt8.self))
    self.owner = owner
  }

  deinit {
    if owner == nil { unsafe LargeBuffers.deallocate(base, size: capacity) }
  }

  /// The memory itself, for a system call to fill or the kernels to read. Valid while the storage lives.
  package var pointer: UnsafeMutablePointer<UInt8> { unsafe base }
}
