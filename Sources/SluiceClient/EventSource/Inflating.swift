import SluiceEventSource
import SluiceStreams
import SluiceZlib

/// A compressed body, inflated a step at a time: no more than the next event needs, and no more than may come of what was sent.
struct Inflating {
  /// One for each coding, the outermost first.
  private var stages: [Stage]
  private let limit: Int
  /// Since the last event: what was sent, and the most that a coding has made of it.
  private var sentBytes = 0
  private var inflatedBytes = 0

  static let stepSize = 64 << 10
  /// Text shrinks to a tenth or a fiftieth: what grows more, and gives no event, is sent to be inflated.
  private static let maxRatio = 100

  fileprivate struct Stage {
    let inflater: Inflater
    var input = Bytes()
    /// Whether there may be output without further input.
    var hasMore = false
    var inflatedBytes = 0
  }

  /// - Parameters:
  ///   - inflaters: Of the codings, in the order in which they are undone.
  ///   - limit: Bytes that may come without an event, where they are more than a hundred times what was sent.
  init(_ inflaters: [Inflater], limit: Int) {
    stages = inflaters.map { Stage(inflater: $0) }
    self.limit = limit
  }

  /// Takes what was sent next; all before it was inflated.
  mutating func append(_ part: Bytes) {
    stages[0].input = part
    sentBytes += part.count
  }

  mutating func gaveEvent() {
    sentBytes = 0
    inflatedBytes = 0
    for index in stages.indices { stages[index].inflatedBytes = 0 }
  }

  /// Whether what was sent is complete, so that a body may end behind it.
  var isComplete: Bool { stages.allSatisfy { $0.inflater.isBetweenMembers } }

  /// - Returns: the bytes of one step, which are some; nil if all was inflated that there is.
  mutating func step() throws -> Bytes? { try step(stages.count - 1) }

  private mutating func step(_ index: Int) throws -> Bytes? {
    while true {
      if stages[index].input.isEmpty && !stages[index].hasMore {
        guard index > 0, let input = try step(index - 1) else { return nil }
        stages[index].input = input
      }
      let output = try stages[index].step()
      inflatedBytes = Swift.max(inflatedBytes, stages[index].inflatedBytes)
      if inflatedBytes > limit, inflatedBytes / Self.maxRatio > sentBytes {
        throw StreamError.limitExceeded(
          what: "the decompressed data since the last event", limit: limit, actual: inflatedBytes)
      }
      if !output.isEmpty { return output }
    }
  }
}

extension Inflating.Stage {
  mutating func step() throws -> Bytes {
    var output = BytesBuilder(capacity: Inflating.stepSize)
    guard let step = inflater.inflate(input.span, to: &output, limit: Inflating.stepSize) else {
      // What stood before the error comes first; zlib says it again then.
      if output.isEmpty { throw EventSourceError.unsupportedBody("invalid gzip data") }
      return output.take()
    }
    input = input.dropFirst(step.consumed)
    hasMore = step.hasMore
    // zlib stands still only where it lacks input: the loop around this ends.
    if !input.isEmpty && step.consumed == 0 && output.isEmpty {
      throw EventSourceError.unsupportedBody("invalid gzip data")
    }
    inflatedBytes += output.count
    return output.take()
  }
}
