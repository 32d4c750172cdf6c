extension Duration {
  /// Whole milliseconds, rounded down; of a time beyond what can be counted, as many as can be.
  package var wholeMilliseconds: Int64 {
    let (seconds, attoseconds) = components
    let (milliseconds, overflow) = seconds.multipliedReportingOverflow(by: 1000)
    let sum = milliseconds.addingReportingOverflow(attoseconds / 1_000_000_000_000_000)
    if overflow || sum.overflow { return seconds < 0 ? .min : .max }
    return sum.partialValue
  }
}
