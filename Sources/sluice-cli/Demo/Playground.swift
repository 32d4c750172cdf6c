import Sluice
import Synchronization

/// A producer, a buffer with a watermark and a consumer, as the page sets them, with their state ten times a second.
final class Playground: Sendable {
  private struct Settings: Equatable {
    /// In KiB per second.
    var produce = 400
    var consume = 150
    /// In KiB.
    var high = 256
  }

  private struct State {
    var settings = Settings()
    var produced = 0
    var consumed = 0
    /// Whether the producer has something to give that the buffer has no room for.
    var isWaiting = false
  }
  private let state = Mutex(State())
  private static let kibibyte = Bytes([UInt8](repeating: 0x73, count: 1024))

  func run(_ ws: WebSocket) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await self.listen(to: ws) }
      group.addTask { try await self.report(to: ws) }
      group.addTask { while !Task.isCancelled { try await self.flow() } }
      // The first that ends, at the connection's end, ends the others.
      defer { group.cancelAll() }
      try await group.next()
    }
  }

  private func listen(to ws: WebSocket) async throws {
    for try await message in ws {
      var settings = state.withLock { $0.settings }
      for pair in message.text.split(separator: "&") {
        let parts = pair.split(separator: "=")
        guard parts.count == 2, let value = Int(parts[1]), (0...10_000).contains(value) else { continue }
        switch parts[0] {
        case "produce": settings.produce = value
        case "consume": settings.consume = value
        case "high": settings.high = max(value, 1)
        default: break
        }
      }
      let new = settings
      state.withLock { $0.settings = new }
    }
  }

  private func report(to ws: WebSocket) async throws {
    while true {
      let text = state.withLock { state in
        let buffered = state.produced - state.consumed
        return "{\"produced\":\(state.produced),\"consumed\":\(state.consumed),\"buffered\":\(buffered),"
          + "\"high\":\(state.settings.high * 1024),\"waiting\":\(state.isWaiting)}"
      }
      try await ws.send(text)
      try await Task.sleep(for: .milliseconds(100))
    }
  }

  /// One pipe, until its watermark is changed: then what is buffered is consumed, and another one is laid.
  private func flow() async throws {
    let high = state.withLock { $0.settings.high }
    let (inlet, outlet) = MemoryStream<Bytes>.pair(highWatermark: high)
    let (producing, consuming) = (Pace(), Pace())
    let producer = Readable<Bytes> {
      let isDue = try await producing.wait {
        self.state.withLock { $0.settings.high == high ? $0.settings.produce : nil }
      }
      return isDue ? Self.kibibyte : nil
    }
    let counted = Writable<Bytes>(
      onClose: { try await inlet.close() }, onAbort: { inlet.abort($0) },
      { chunk in
        self.state.withLock { $0.isWaiting = true }
        try await inlet.write(chunk)
        self.state.withLock { state in
          state.isWaiting = false
          state.produced += chunk.count
        }
      })
    let consumer = Writable<Bytes> { chunk in
      self.state.withLock { $0.consumed += chunk.count }
      _ = try await consuming.wait { self.state.withLock { $0.settings.consume } }
    }
    async let produced: Void = producer.pipe(counted)
    try await outlet.pipe(consumer)
    try await produced
  }
}

/// Lets one KiB after the other pass, at a speed that may change.
private final class Pace: Sendable {
  private let due = Mutex(ContinuousClock.now)
  /// How often the speed is looked at, and how much time that was lost may be made up for.
  private static let step = Duration.milliseconds(50)

  /// - Parameter speed: KiB per second; nil if it is over.
  /// - Returns: whether the next one is due; false when it is over.
  func wait(for speed: () -> Int?) async throws -> Bool {
    while let speed = speed() {
      let now = ContinuousClock.now
      let next = due.withLock { due in
        if speed == 0 {
          due = now
          return now + Self.step
        }
        if due > now { return due }
        due = max(due, now - Self.step) + .seconds(1 / Double(speed))
        return now
      }
      if next <= now { return true }
      try await Task.sleep(for: min(next - now, Self.step))
    }
    return false
  }
}
