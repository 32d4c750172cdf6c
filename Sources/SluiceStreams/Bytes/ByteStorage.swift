/// The allocation behind `Bytes` and `BytesBuilder`: raw memory with a reference count.
///
/// Whoever holds the only reference may write; a part that a `Bytes` shows to others is never written again.
@usableFromInline
@safe package final class ByteStorage: @unchecked Sendable {
  @usableFromInline let base: UnsafeMutablePointer<UInt8>
  @usableFromInline package let capacity: Int

  @usableFromInline static let empty = ByteStorage(capacity: 0)

  @usableFromInline
  package init(capacity: Int) {
    self.capacity = LargeBuffers.roundedSize(capacity)
    unsafe base = LargeBuffers.allocate(self.capacity)
  }

  deinit {
    unsafe LargeBuffers.deallocate(base, size: capacity)
  }

  /// The memory itself, for a system call to fill or the kernels to read. Valid while the storage lives.
  package var pointer: UnsafeMutablePointer<UInt8> { unsafe base }
}
