/// Memory for the latest small message of many, one after the other: used again once nobody holds that message any more, as one that is
/// answered at once.
///
/// A message that is kept holds no more than the bytes that are kept with it anyway: see `Bytes.isWasteful`.
@usableFromInline
package struct SmallBuffer: ~Copyable {
  @inlinable package static var capacity: Int { 64 }
  @usableFromInline var storage = ByteStorage(capacity: capacity)

  package init() {}

  /// For up to `capacity` bytes.
  @inlinable
  package mutating func take() -> BytesBuilder {
    if !isKnownUniquelyReferenced(&storage) { renew() }
    return BytesBuilder(reusing: storage)
  }

  @usableFromInline
  @inline(never)
  mutating func renew() { storage = ByteStorage(capacity: Self.capacity) }
}
