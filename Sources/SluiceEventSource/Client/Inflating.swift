import SluiceStreams
import SluiceZlib

/// A compressed body, inflated a step at a time: no more than the next event needs, and no more than may come of what was sent.
struct Inflating {
  private let inflater: Inflater
  private let limit: Int
  private var compressed = TransformOutput<Bytes>()
  /// Since the last event.
  private var consumedBytes = 0
  private var inflatedBytes = 0

  static let stepSize = 64 << 10
  /// Text shrinks to a tenth or a fiftieth: what grows more, and gives no event, is sent to be inflated.
  private static let maxRatio = 100

  /// - Parameter limit: Bytes that may come without an event, where they are more than a hundred times what was sent.
  init(_ inflater: Inflater, limit: Int) {
    self.inflater = inflater
    self.limit = limit
  }

  mutating func append(_ part: Bytes) { compressed.append(part) }

  mutating func gaveEvent() {
    consumedBytes = 0
    inflatedBytes = 0
  }

  /// - Returns: the bytes of one step; nil if all was inflated that there is.
  mutating func step() throws -> Bytes? {
    guard let part = compressed.popFirst() else { return nil }
    var inflated = BytesBuilder(capacity: Self.stepSize)
    guard let step = inflater.inflate(part.span, to: &inflated, limit: Self.stepSize),
      step.consumed > 0 || !inflated.isEmpty
    else { throw EventSourceError.unsupportedBody("what is no gzip") }
    let rest = part.dropFirst(step.consumed)
    if !rest.isEmpty || step.hasMore { compressed.prepend(rest) }
    consumedBytes += step.consumed
    inflatedBytes += inflated.count
    if inflatedBytes > limit, inflatedBytes / Self.maxRatio > consumedBytes {
      throw StreamError.limitExceeded(
        what: "what a compressed event stream grows to without an event", limit: limit, actual: inflatedBytes)
    }
    return inflated.take()
  }
}
