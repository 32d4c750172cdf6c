/// The allocation behind `Bytes` and `BytesBuilder`: raw memory with a reference count; or memory of somebody else's, held as long as this lives.
///
/// Whoever holds the only reference may write, but for foreign memory, which is only read; a part that a `Bytes` shows to others is never written again.
///
/// # Lent memory
///
/// A loop and its coders fill the same buffers over and over, and lend slices of them without a copy: `ReadBuffer`,
/// `ScratchBuffers`, `DeflateContexts`. One rule holds for all of them:
///
/// - The owner writes over what it has lent only while nobody else holds a part of the buffer (`BytesBuilder.reset`,
///   `resetIfUnshared`, `reclaim`, `ReadBuffer.next`). Otherwise it takes new memory, or goes on behind what was lent
///   (`BytesBuilder.lend`). So a slice never changes, however long it is kept.
/// - What is shown as a `Span`, which holds no reference, is not the owner's to write over meanwhile either (`ReadBuffer.lend`): who reads from inside
///   of that reads into other memory. No code of an application runs inside of it.
/// - What keeping one costs is the whole buffer, which the owner must replace. Whoever keeps a slice beyond the turn of the loop
///   moves it out first, if it is a small part of its buffer (`Bytes.isWasteful`): with `Bytes.compacted`, with
///   `PolledReadableStream.detach` where it is part of an element, as `read()` does, or in a `ByteQueue` that is settled.
@usableFromInline
@safe package final class ByteStorage: @unchecked Sendable {
  @usableFromInline let base: UnsafeMutablePointer<UInt8>
  @usableFromInline package let capacity: Int
  /// What foreign memory stays with; nil where it was allocated here.
  private let owner: AnyObject?

  @usableFromInline package static let empty = ByteStorage(capacity: 0)

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
