import SluiceStreams
import SluiceTestSupport
import Testing

@testable import SluiceIO

/// Times that no clock can count.
private let extremes: [Duration] = [
  .seconds(Int64.max), .seconds(Int64.max) * 18, .seconds(Int64.max / 1000), .seconds(Int64.min),
  .seconds(Int64.min) * 18,
  .nanoseconds(Int64.max), .zero,
]

@Suite("Times of any size", .timeLimit(.minutes(1)))
struct DurationTests {
  @Test("what clocks are given is at least nothing and at most a century", arguments: extremes)
  func bounds(_ time: Duration) {
    #expect(time.bounded >= .zero && time.bounded <= .longest)
    #expect(time.bounded == time || time < .zero || time > .longest)
  }

  @Test("milliseconds are whole ones, as far as they can be counted")
  func milliseconds() {
    for time in extremes where time >= .zero {
      #expect(time.wholeMilliseconds >= 0)
      #expect(Duration.milliseconds(time.wholeMilliseconds) <= time)
    }
    #expect(Duration.seconds(Int64.max).wholeMilliseconds == .max)
    #expect((Duration.seconds(Int64.min) * 18).wholeMilliseconds == .min)
    #expect(Duration.microseconds(1999).wholeMilliseconds == 1)
  }

  @Test("timers of a loop are set, and those of nothing or less are due", arguments: extremes)
  func timers(_ time: Duration) async throws {
    let fired = try await withThrowingTaskGroup(of: Bool.self) { group in
      group.addTask {
        do { try await UVLoop.shared.sleep(for: time) } catch { return false }
        return true
      }
      group.addTask {
        do { try await pause(for: time) } catch { return false }
        return true
      }
      try await Task.sleep(for: .milliseconds(20))
      group.cancelAll()
      return try await group.reduce(into: []) { $0.append($1) }
    }
    #expect(fired == (time <= .zero ? [true, true] : [false, false]))
  }

  @Test("a simulated loop's too", arguments: extremes)
  func simulatedTimers(_ time: Duration) async throws {
    let loop = SimulatedLoop()
    try await loop.simulate { try await loop.sleep(for: time) }
  }

  @Test("the half-close timeout of a bridge", arguments: extremes)
  func bridging(_ time: Duration) async throws {
    let (a, aPeer) = MemoryStream<Bytes>.pair()
    let (b, bPeer) = MemoryStream<Bytes>.pair()
    let bridging = Task { try await bridge(a, b, options: BridgeOptions(halfCloseTimeout: time)) }
    try await aPeer.close()
    #expect(try await bPeer.read() == nil)
    try await Task.sleep(for: .milliseconds(20))
    try await bPeer.close()
    do { try await bridging.value } catch StreamError.halfCloseTimeout(let limit) {
      #expect(limit == time && time <= .zero)
    } catch { Issue.record("\(error)") }
  }

  @Test("the watch over a peer that takes nothing, a stay at the end, and connecting", arguments: extremes)
  func others(_ time: Duration) async throws {
    let path = "@sluice-test-\(UInt64.random(in: 0 ... .max))"
    let listener = try await UnixSocket.listen(path)
    defer { listener.cancel(nil) }
    let socket = try await UnixSocket.connect(path, timeout: time)
    try await UVLoop.shared.run { StallWatch(socket, limit: time) {}.stop() }
    socket.abort(StreamError.aborted)
    let lingering = SequenceStream([1]).endingLater(by: time)
    #expect(try await lingering.read() == 1)
    let end = Task { try await lingering.read() }
    try await Task.sleep(for: .milliseconds(10))
    lingering.cancel()
    #expect(try await end.value == nil)
    let tcp = try await TCP.listen("127.0.0.1", port: 0)
    defer { tcp.cancel(nil) }
    do { try await TCP.connect("127.0.0.1", port: tcp.port, timeout: time).abort(StreamError.aborted) } catch {
      #expect(time <= .zero, "\(error)")
    }
  }
}
