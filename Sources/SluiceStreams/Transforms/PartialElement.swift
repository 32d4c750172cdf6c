/// The pieces of an element whose end has not come.
struct PartialElement {
  private var pieces: [Bytes] = []
  /// Small pieces behind those, put together: each for itself would cost many times what it holds.
  private var tail: [UInt8] = []
  private(set) var count = 0

  /// What is held in memory of its own.
  var pieceCount: Int { pieces.count + (tail.isEmpty ? 0 : 1) }

  private static let smallSize = 4 << 10
  private static let tailSize = 64 << 10

  mutating func append(_ piece: Bytes, limit: Int, what: String) throws {
    count += piece.count
    guard count <= limit else { throw StreamError.limitExceeded(what: what, limit: limit, actual: count) }
    if piece.isEmpty { return }
    // The first stays as it is: it may be all.
    if count == piece.count || piece.count > Self.smallSize {
      closeTail()
      pieces.append(piece)
    } else {
      if tail.count + piece.count > Self.tailSize { closeTail() }
      tail.append(contentsOf: piece)
    }
  }

  private mutating func closeTail() {
    if tail.isEmpty { return }
    pieces.append(Bytes(tail))
    tail.removeAll(keepingCapacity: true)
  }

  /// The element; one that came in one piece is not copied.
  mutating func take() -> Bytes {
    defer {
      pieces.removeAll(keepingCapacity: pieces.count < 16)
      tail = []
      count = 0
    }
    if tail.isEmpty && pieces.count <= 1 { return pieces.first ?? Bytes() }
    var builder = BytesBuilder(capacity: count)
    for piece in pieces { builder.append(piece) }
    builder.append(contentsOf: tail)
    return builder.take()
  }
}
