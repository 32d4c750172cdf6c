/// Memory for the latest small message of many, one after the other: used again once nobody holds that message any more, as one that is
/// answered at once.
///
/// A message that is kept holds no more than the bytes that are kept with it anyway: see `Bytes.isWasteful`.
package struct SmallBuffer: ~Copyable {
  package static let capacity = 64
  private var storage = ByteStorage(capacity: capacity)

  package init() {}

  /// For up to `capacity` bytes.
  package mutating func take() -> BytesBuilder {
    if !isKnownUniquelyReferenced(&storage) { storage = ByteStorage(capacity: Self.capacity) }
    return BytesBuilder(reusing: storage)
  }
}
