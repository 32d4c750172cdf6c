/// A growing buffer that becomes `Bytes` without a copy.
///
/// ```swift
/// var builder = BytesBuilder()
/// builder.append("data: ")
/// builder.append(payload)
/// let event = builder.take()
/// ```
public struct BytesBuilder: ~Copyable, Sendable {
  /// nil while there is no memory, so that an empty builder costs nothing.
  @usableFromInline var storage: ByteStorage?
  @usableFromInline var length: Int

  /// - Parameter capacity: Bytes to allocate at once; more are allocated as needed, doubling.
  public init(capacity: Int = 0) {
    storage = capacity == 0 ? nil : ByteStorage(capacity: capacity)
    length = 0
  }

  /// Continues in memory whose only reference is passed in.
  @inlinable
  package init(reusing storage: consuming ByteStorage) {
    self.storage = storage
    length = 0
  }

  /// Bytes appended so far.
  @inlinable public var count: Int { length }
  @inlinable public var isEmpty: Bool { count == 0 }
  @inlinable public var capacity: Int { storage?.capacity ?? 0 }

  /// Where the bytes lie; there is memory.
  @inlinable var base: UnsafeMutablePointer<UInt8> { unsafe storage.unsafelyUnwrapped.base }

  /// Makes room for at least `extra` more bytes.
  @inlinable
  public mutating func reserve(_ extra: Int) {
    if extra > capacity - count { grow(extra) }
  }

  @inline(never)
  @usableFromInline
  mutating func grow(_ extra: Int) {
    let wanted = Swift.max(count + extra, 2 * capacity, 64)
    let larger = ByteStorage(capacity: wanted)
    if count > 0 { unsafe larger.pointer.update(from: base, count: count) }
    storage = larger
  }

  @inlinable
  public mutating func append(_ byte: UInt8) {
    reserve(1)
    unsafe base[count] = byte
    length += 1
  }

  @inlinable
  public mutating func append(_ span: Span<UInt8>) {
    unsafe span.withUnsafeBufferPointer { source in
      guard let base = source.baseAddress else { return }
      unsafe appendUninitialized(source.count) { unsafe $0.update(from: base, count: source.count) }
    }
  }

  public mutating func append(_ bytes: Bytes) {
    append(bytes.span)
  }

  public mutating func append(contentsOf elements: some Collection<UInt8>) {
    let wasContiguous: Void? = elements.withContiguousStorageIfAvailable { buffer in
      unsafe append(Span(_unsafeElements: buffer))
    }
    if wasContiguous == nil {
      for byte in elements { append(byte) }
    }
  }

  public mutating func append(_ string: some StringProtocol) {
    append(contentsOf: string.utf8)
  }

  /// Big-endian, as network protocols write numbers.
  @inlinable
  public mutating func append(bigEndian value: some FixedWidthInteger) {
    var shift = value.bitWidth
    while shift > 0 {
      shift -= 8
      append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }

  /// Appends `length` bytes that `body` must write, all of them.
  @inlinable
  package mutating func appendUninitialized(_ length: Int, _ body: (UnsafeMutablePointer<UInt8>) -> Void) {
    if length == 0 { return }
    reserve(length)
    unsafe body(base + count)
    self.length += length
  }

  /// Appends up to `room` bytes: as many as `body` says that it has written.
  package mutating func appendInitializing(upTo room: Int, _ body: (UnsafeMutablePointer<UInt8>) -> Int) {
    reserve(Swift.max(room, 1))
    let written = unsafe body(base + count)
    precondition(written >= 0 && written <= room, "more was written than there was room for")
    length += written
  }

  /// What was appended so far.
  package var span: Span<UInt8> {
    @_lifetime(borrow self)
    borrowing get {
      let buffer = unsafe UnsafeBufferPointer(start: storage.map { unsafe UnsafePointer($0.base) }, count: count)
      let span = unsafe Span(_unsafeElements: buffer)
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  /// The bytes from `offset` (0 to `count`) on, to look at or to change in place.
  @inlinable
  package mutating func withMutableSpan<R>(from offset: Int, _ body: (inout MutableSpan<UInt8>) -> R) -> R {
    precondition(offset >= 0 && offset <= count, "offset out of range")
    let start = unsafe storage.map { unsafe $0.base + offset }
    let buffer = unsafe UnsafeMutableBufferPointer(start: start, count: count - offset)
    var span = unsafe buffer.mutableSpan
    return body(&span)
  }

  /// Forgets what was appended after the first `length` bytes.
  public mutating func truncate(to length: Int) {
    precondition(length >= 0 && length <= count, "truncating to more than there is")
    self.length = length
  }

  /// Everything appended, without a copy; the builder is empty afterwards.
  @inlinable
  public mutating func take() -> Bytes {
    guard count > 0, let filled = storage.take() else { return Bytes() }
    let end = count
    length = 0
    return Bytes(storage: filled, start: 0, end: end)
  }

  /// Everything appended, without a copy; the builder goes on behind it, or, once nobody holds the bytes any more, in their
  /// place: see `ByteStorage` for lent memory.
  package mutating func lend() -> Bytes {
    Bytes(storage: storage ?? .empty, start: 0, end: count)
  }

  /// Empties the builder. Its memory is used again if nobody else holds a part of it.
  package mutating func reset() {
    if !isKnownUniquelyReferenced(&storage) { storage = nil }
    length = 0
  }

  /// Empties the builder if nobody else holds a part of its memory, and does nothing otherwise.
  package mutating func resetIfUnshared() {
    if isKnownUniquelyReferenced(&storage) { length = 0 }
  }

  /// Gives the memory away, if nobody else holds a part of it.
  package mutating func reclaim() -> ByteStorage? {
    length = 0
    guard isKnownUniquelyReferenced(&storage) else {
      storage = nil
      return nil
    }
    return storage.take()
  }
}
