/// A slice of a shared, reference-counted buffer that never changes.
///
/// Passing `Bytes` on costs one reference count; slicing copies nothing. A slice keeps its whole buffer alive, so
/// a stream that hands a few bytes to an application copies them out of its read buffer first; use `compacted()`
/// to do the same with a slice that will live long. `ByteStorage` has the rule for buffers that are used again.
///
/// ```swift
/// let line: Bytes = "GET / HTTP/1.1\r\n"
/// let method = line.prefix(3)
/// method.string          // "GET"
/// ```
public struct Bytes: Sendable {
  @usableFromInline let storage: ByteStorage
  @usableFromInline var start: Int
  @usableFromInline let end: Int

  /// The caller vouches that `start ..< end` lies within the storage and was initialised, and that nobody writes
  /// to it while this value or a slice of it lives.
  @inlinable
  package init(storage: ByteStorage, start: Int, end: Int) {
    self.storage = storage
    self.start = start
    self.end = end
  }

  /// Bytes in the memory of something else, without a copy: the buffer of another library, a mapped file.
  ///
  /// The caller vouches that the memory stays, and that nobody writes to it, while `owner` lives. It is held by these bytes and every slice of them,
  /// and may be let go of on any thread.
  /// - Parameter size: Bytes that `owner` keeps in all: what makes a slice of them wasteful. Default: as many as these.
  @unsafe public init(_ memory: UnsafeRawBufferPointer, of owner: AnyObject, size: Int? = nil) {
    guard let base = memory.baseAddress, unsafe !memory.isEmpty else {
      self.init()
      return
    }
    let storage = unsafe ByteStorage(foreign: base, capacity: size ?? memory.count, owner: owner)
    self.init(storage: storage, start: 0, end: memory.count)
  }

  /// No bytes; allocates nothing.
  @inlinable
  public init() {
    self.init(storage: ByteStorage.empty, start: 0, end: 0)
  }

  /// Copies the elements of a collection.
  public init(_ elements: some Collection<UInt8>) {
    if let bytes = elements as? Bytes {
      self = bytes
      return
    }
    var builder = BytesBuilder(capacity: elements.count)
    builder.append(contentsOf: elements)
    self = builder.take()
  }

  /// Copies a span.
  public init(copying span: Span<UInt8>) {
    var builder = BytesBuilder(capacity: span.count)
    builder.append(span)
    self = builder.take()
  }

  /// Copies a string's UTF-8.
  public init(_ string: some StringProtocol) {
    self.init(string.utf8)
  }

  /// The bytes without a copy, for as long as this value lives.
  @inlinable
  public var span: Span<UInt8> {
    @_lifetime(borrow self)
    get {
      let buffer = unsafe UnsafeBufferPointer(start: UnsafePointer(storage.base + start), count: end - start)
      let span = unsafe Span(_unsafeElements: buffer)
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  /// Takes bytes from the front, as `dropFirst` does, in place: no reference is counted.
  /// - Parameter count: 0 to `self.count`.
  @inlinable
  package mutating func trimFirst(_ count: Int) {
    precondition(count >= 0 && count <= end &- start, "trimming more than there is")
    start &+= count
  }

  /// Whether most of the buffer that this slice keeps alive lies outside the slice.
  package var isWasteful: Bool { storage.capacity > 2 * count + 64 }

  /// Whether both are the same place in memory, not only the same bytes.
  package func isIdentical(to other: Bytes) -> Bool {
    storage === other.storage && start == other.start && end == other.end
  }

  /// These bytes and others behind them: a copy, unless one of the two is empty.
  package func followed(by other: Bytes) -> Bytes {
    if isEmpty { return other }
    if other.isEmpty { return self }
    var builder = BytesBuilder(capacity: count + other.count)
    builder.append(self)
    builder.append(other)
    return builder.take()
  }

  /// The same bytes in a buffer of their own size, if the slice keeps a much larger buffer alive; itself otherwise.
  public func compacted() -> Bytes {
    isWasteful ? Bytes(copying: span) : self
  }

  /// The bytes as UTF-8; what is not valid UTF-8 becomes U+FFFD.
  public var string: String {
    String(decoding: self, as: UTF8.self)
  }
}

extension Bytes: RandomAccessCollection {
  public typealias SubSequence = Bytes

  @inlinable public var startIndex: Int { start }
  @inlinable public var endIndex: Int { end }
  @inlinable public var count: Int { end - start }

  /// The byte at an index of this slice. Indices are shared with the slice that it was cut from, as `ArraySlice`'s are.
  @inlinable
  public subscript(index: Int) -> UInt8 {
    precondition(index >= start && index < end, "index out of range")
    return unsafe storage.base[index]
  }

  @inlinable
  public subscript(bounds: Range<Int>) -> Bytes {
    precondition(bounds.lowerBound >= start && bounds.upperBound <= end, "range out of bounds")
    return Bytes(storage: storage, start: bounds.lowerBound, end: bounds.upperBound)
  }

  public func withContiguousStorageIfAvailable<R>(_ body: (UnsafeBufferPointer<UInt8>) throws -> R) rethrows -> R? {
    try unsafe withUnsafeBytes { buffer in try unsafe body(buffer.assumingMemoryBound(to: UInt8.self)) }
  }

  /// Calls `body` with the bytes; the pointer is valid during the call only.
  @inlinable
  public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
    let result = try unsafe body(UnsafeRawBufferPointer(start: storage.base + start, count: end - start))
    withExtendedLifetime(storage) {}
    return result
  }
}

extension Bytes: Hashable {
  public static func == (left: Bytes, right: Bytes) -> Bool {
    guard left.count == right.count else { return false }
    return unsafe left.withUnsafeBytes { left in
      unsafe right.withUnsafeBytes { right in
        // Eight bytes at a time, also where nothing is optimised: tests compare megabytes.
        var position = 0
        while position + 8 <= left.count {
          let (one, other) = unsafe (
            left.loadUnaligned(fromByteOffset: position, as: UInt64.self),
            right.loadUnaligned(fromByteOffset: position, as: UInt64.self)
          )
          if one != other { return false }
          position += 8
        }
        while position < left.count {
          if unsafe left[position] != right[position] { return false }
          position += 1
        }
        return true
      }
    }
  }

  public func hash(into hasher: inout Hasher) {
    unsafe withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
  }
}

extension Bytes: ExpressibleByArrayLiteral, ExpressibleByStringLiteral, CustomStringConvertible {
  public init(arrayLiteral elements: UInt8...) {
    self.init(elements)
  }

  public init(stringLiteral value: String) {
    self.init(value)
  }

  /// The number of bytes, not the bytes: payloads don't belong in logs.
  public var description: String { "Bytes(count: \(count))" }
}

extension String {
  /// Bytes as UTF-8; what is not valid UTF-8 becomes U+FFFD. `String(validating: bytes, as: UTF8.self)` is nil then.
  public init(_ bytes: Bytes) { self.init(decoding: bytes, as: UTF8.self) }
}
