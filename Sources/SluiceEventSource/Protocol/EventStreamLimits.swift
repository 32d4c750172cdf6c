/// Limits of an event stream that is read.
public struct EventStreamLimits: Sendable, Hashable {
  /// Bytes of one event: its data, its type and its id, in however many lines. Comments and unknown fields are passed over as they come and have no
  /// limit. Default: 16 MiB.
  public var maxEventBytes: Int
  /// Bytes that a compressed stream may grow to between two events, where they are more than a hundred times what was sent: a bomb, rather than
  /// an event. Default: twice `maxEventBytes`.
  public var maxInflatedBytes: Int

  /// - Parameter maxInflatedBytes: nil is twice `maxEventBytes`.
  public init(maxEventBytes: Int = 16 << 20, maxInflatedBytes: Int? = nil) {
    self.maxEventBytes = maxEventBytes
    self.maxInflatedBytes = maxInflatedBytes ?? Swift.min(maxEventBytes, Int.max / 2) * 2
  }
}
