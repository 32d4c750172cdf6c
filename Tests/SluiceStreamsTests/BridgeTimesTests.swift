import SluiceStreams
import SluiceTestSupport
import Synchronization
import Testing

@Suite("Times of a bridge, at their last good value and their first bad one")
struct BridgeTimesTests {
  private typealias Memory = MemoryStream<Bytes>
  private struct OwnWords: Error {}
  private struct WriteFailure: Error {}

  @Test("a Close is held until the other direction has been silent for the time of an answer, and no longer")
  func answer() async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      let (a, nearA) = Memory.pair()
      let (b, nearB) = Memory.pair()
      let socket = JoinedStream(reading: nearB, writing: nearB, endsAsOne: true)
      let bridging = Task(executorPreference: loop) { try await bridge(nearA, socket) }
      let answering = Task(executorPreference: loop) {
        for _ in 0..<3 {
          try await loop.sleep(for: .milliseconds(999))
          try await b.write("answer")
        }
      }
      try await a.close()
      for _ in 0..<3 { #expect(try await a.read() == "answer") }
      #expect(try await b.read() == nil)
      // It is looked at as often as the limit is long.
      let silence = loop.now - .milliseconds(3 * 999)
      #expect(silence >= .seconds(1) && silence < .seconds(2))
      try await answering.value
      try await b.close()
      try await bridging.value
    }
  }

  @Test("silence behind an end may last as long as its limit")
  func halfClose() async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      let (a, nearA) = Memory.pair()
      let (b, nearB) = Memory.pair()
      let bridging = Task(executorPreference: loop) { try await bridge(nearA, nearB) }
      try await a.close()
      #expect(try await b.read() == nil)
      try await loop.sleep(for: .milliseconds(29_999))
      try await b.write("late")
      #expect(try await a.read() == "late")
      await #expect(throws: StreamError.halfCloseTimeout(.seconds(30))) { try await bridging.value }
      let silence = loop.now - .milliseconds(29_999)
      #expect(silence >= .seconds(30) && silence < .seconds(60))
    }
  }

  @Test(
    "a side that can't be written to may say why for a time",
    arguments: [(Duration.milliseconds(999), true), (.milliseconds(1001), false)])
  func lastWords(delay: Duration, isHeard: Bool) async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      let (a, nearA) = Memory.pair()
      let (b, nearB) = Memory.pair()
      let failing = JoinedStream(
        reading: nearB, writing: Writable<Bytes>(onAbort: { nearB.abort($0) }) { _ in throw WriteFailure() })
      _ = loop.schedule(after: delay) { b.abort(OwnWords()) }
      let bridging = Task(executorPreference: loop) { try await bridge(nearA, failing) }
      try await a.write("x")
      do {
        try await bridging.value
        Issue.record("a bridge went well that could not write")
      } catch { #expect(error is OwnWords == isHeard) }
      #expect(loop.now == Swift.min(delay, .seconds(1)))
    }
  }
}
