extension Duration {
  /// The longest time that anything here waits: a century. Clocks count nanoseconds in 64 bits, and some end the process where that does not do.
  package static let longest = Duration.seconds(3_155_760_000)

  /// As a clock can wait for it: at least nothing, and a century at most. What is asked for may be of any size, such as `.seconds(Int64.max)` for
  /// "never".
  package var bounded: Duration { Swift.min(Swift.max(self, .zero), .longest) }

  /// Whole milliseconds, rounded down; of a time beyond what can be counted, as many as can be.
  package var wholeMilliseconds: Int64 {
    // Beyond this, the seconds alone are more.
    if self > .seconds(Int64.max / 1000) { return .max }
    if self < .seconds(Int64.min / 1000) { return .min }
    let (seconds, attoseconds) = components
    return seconds * 1000 + attoseconds / 1_000_000_000_000_000
  }
}
