/// An element whose size is known, so that limits of bytes can count it; others count as one.
public protocol ByteCounted {
  /// Bytes of payload.
  var byteCount: Int { get }
}

extension Bytes: ByteCounted {
  public var byteCount: Int { count }
}

extension String: ByteCounted {
  public var byteCount: Int { utf8.count }
}

/// What a queue holds for an element of so many bytes: these, and 160 for its place in the queue and the memory that its bytes lie in, which is
/// what most of it is where elements are small.
package func heldCost(ofByteCount count: Int) -> Int { count + 160 }

/// What an element counts against a limit of bytes that are held.
func heldCost(of element: some Any) -> Int {
  (element as? any ByteCounted).map { heldCost(ofByteCount: $0.byteCount) } ?? 1
}
