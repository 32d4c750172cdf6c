/// How long to wait before each attempt: exponential backoff with full jitter.
package struct Backoff {
  private let options: ReconnectOptions
  package private(set) var failures = 0

  package init(_ options: ReconnectOptions) { self.options = options }

  /// A connection has ended.
  package mutating func connectionDidEnd(after lifetime: Duration) {
    if lifetime >= options.stableTime { failures = 0 }
  }

  /// - Parameters:
  ///   - wanted: What the server asked for; it gets no more than `maxDelay`.
  ///   - random: 0 to 1.
  /// - Returns: nil if there were attempts enough.
  package mutating func nextDelay(wanted: Duration? = nil, random: Double) -> Duration? {
    if let maxAttempts = options.maxAttempts, failures >= maxAttempts { return nil }
    let maxDelay = options.maxDelay.bounded
    var longest = options.firstDelay.bounded
    for _ in 0..<failures where longest < maxDelay { longest *= 2 }
    longest = min(longest, maxDelay)
    failures += 1
    return max(longest * random, min(wanted ?? .zero, options.maxDelay))
  }
}
