import SluiceStreams
import SluiceTestSupport
import Testing

@Suite("Peers that take nothing, and peers that take their time")
struct StallWatchTests {
  private static let chunk = Bytes([UInt8](repeating: 7, count: 8 << 10))

  /// Writes a lot in one piece while the peer reads 8 KiB in each `interval`, for at most `reads` times.
  /// - Returns: when the write was over, and whether it failed.
  private func write(limit: Duration, interval: Duration, reads: Int) async throws -> (time: Duration, failed: Bool) {
    let loop = SimulatedLoop()
    return try await loop.simulate {
      var network = SimulatedNetwork(loop: loop)
      network.window = 8 << 10
      let (near, far) = network.connection()
      let reading = Task(executorPreference: loop) {
        for _ in 0..<reads {
          try await loop.sleep(for: interval)
          guard try await far.read() != nil else { return }
        }
      }
      var failed = false
      do {
        try await near.whilePeerTakes(within: limit, orAbort: StreamError.aborted) {
          for _ in 0..<20 { try await near.write(Self.chunk) }
        }
      } catch { failed = true }
      let time = loop.now
      reading.cancel()
      near.abort(StreamError.aborted)
      far.abort(StreamError.aborted)
      return (time, failed)
    }
  }

  @Test("a peer that takes something within the limit, again and again, has as long as it needs")
  func slow() async throws {
    let (time, failed) = try await write(limit: .seconds(10), interval: .seconds(7), reads: .max)
    #expect(!failed && time > .seconds(100))
  }

  @Test("a peer that stops is given up after the limit, and not much later", arguments: [0, 3])
  func stalled(reads: Int) async throws {
    let (time, failed) = try await write(limit: .seconds(10), interval: .seconds(7), reads: reads)
    let last = Duration.seconds(7 * reads)
    #expect(failed && time >= last + .seconds(10) && time <= last + .seconds(15), "\(time)")
  }

  @Test("an end waits for a peer that takes its time, and then for its own end, for a while")
  func lingering() async throws {
    let loop = SimulatedLoop()
    let (received, end, time) = try await loop.simulate {
      var network = SimulatedNetwork(loop: loop)
      network.window = 8 << 10
      let (near, far) = network.connection()
      let reading = Task(executorPreference: loop) {
        var count = 0
        while let bytes = try await far.read() {
          count += bytes.count
          try await loop.sleep(for: .seconds(5))
        }
        return count
      }
      for _ in 0..<10 { try near.push(Self.chunk) }
      await near.closeLingering(stallTimeout: .seconds(10), orAbort: StreamError.aborted)
      let time = loop.now
      let result = await reading.result
      far.abort(StreamError.aborted)
      return (try result.get(), near.unreadByPeer, time)
    }
    #expect(received == 10 * Self.chunk.count && end == 0)
    #expect(time > .seconds(40) && time < .seconds(60))
  }
}
