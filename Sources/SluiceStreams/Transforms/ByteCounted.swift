/// An element whose size in memory is known; others count as one.
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

/// What an element counts against a watermark.
func cost(of element: some Any) -> Int {
  (element as? any ByteCounted).map { Swift.max($0.byteCount, 1) } ?? 1
}
