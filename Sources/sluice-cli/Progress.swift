import Sluice
import Synchronization

/// Bytes, messages and rate on standard error, once a second.
final class Progress: Sendable {
  private let bytes = Atomic<Int>(0)
  private let messages = Atomic<Int>(0)
  private let start = ContinuousClock.now

  /// - Parameter isMessage: Whether that is a message; otherwise it is as much as was read at once.
  func add(_ byteCount: Int, isMessage: Bool) {
    bytes.wrappingAdd(byteCount, ordering: .relaxed)
    if isMessage { messages.wrappingAdd(1, ordering: .relaxed) }
  }

  func report(_ diagnostics: Diagnostics) async throws {
    var last = 0
    while true {
      try await Task.sleep(for: .seconds(1))
      let now = bytes.load(ordering: .relaxed)
      diagnostics.progress(line(rate: Double(now - last)), isLast: false)
      last = now
    }
  }

  /// The sum, when all is over.
  func finish(_ diagnostics: Diagnostics) {
    let time = (ContinuousClock.now - start) / .seconds(1)
    diagnostics.progress(line(rate: Double(bytes.load(ordering: .relaxed)) / max(time, 0.001)), isLast: true)
  }

  private func line(rate: Double) -> String {
    let count = messages.load(ordering: .relaxed)
    let seconds = Int((ContinuousClock.now - start) / .seconds(1))
    let cut = count == 0 ? "" : count == 1 ? " in 1 message" : " in \(count) messages"
    return "\(Self.text(Double(bytes.load(ordering: .relaxed))))\(cut), \(seconds) s, \(Self.text(rate))/s"
  }

  private static func text(_ bytes: Double) -> String {
    var value = bytes
    for unit in ["B", "KiB", "MiB", "GiB"] {
      if value < 1024 { return unit == "B" ? "\(Int(value)) B" : "\((value * 10).rounded() / 10) \(unit)" }
      value /= 1024
    }
    return "\((value * 10).rounded() / 10) TiB"
  }
}
