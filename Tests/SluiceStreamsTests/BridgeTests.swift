import SluiceIO
import SluiceStreams
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

@Suite("Bridge", .timeLimit(.minutes(1)))
struct BridgeTests {
  private typealias Memory = MemoryStream<Bytes>

  @Test("an error on either side aborts all four halves")
  func error() async throws {
    let (a, nearA) = Memory.pair()
    let (b, nearB) = Memory.pair()
    let bridged = Task { try await bridge(nearA, nearB) }
    a.abort(TestError.reason)
    await #expect(throws: TestError.reason) { try await bridged.value }
    await #expect(throws: TestError.reason) { try await b.read() }
  }

  @Test(
    "the error that is thrown is the first, also where the other direction tells sooner of what that has brought about")
  func firstError() async throws {
    let (a, nearA) = Memory.pair()
    var options = BridgeOptions()
    options.stallTimeout = .milliseconds(300)
    let bridged = Task { [options] in try await bridge(nearA, SlowToAbort(), options: options) }
    a.abort(TestError.reason)
    await #expect(throws: TestError.reason) { try await bridged.value }
  }

  @Test("a side whose reading fails gets what was read for it, also when it pauses", arguments: [false, true])
  func sinkOfFailedSource(isPolled: Bool) async throws {
    let (a, nearA) = Memory.pair()
    let (b, nearB) = Memory.pair()
    let failing = Readable<Bytes> {
      try await Task.sleep(for: .milliseconds(200))
      throw TestError.reason
    }
    var options = BridgeOptions()
    options.lastWordsTimeout = .milliseconds(20)
    let bridged = Task { [options] in
      let sink: any WritableStream<Bytes> = isPolled ? nearA.polled(on: UVLoop.shared) : nearA
      try await SluiceStreams.bridge(
        JoinedStream(reading: failing, writing: AnyWritable(sink)), nearB, options: options)
    }
    // One more than there is room for.
    let count = 17
    for number in 0..<count { try await b.write(Bytes("\(number)")) }
    try await Task.sleep(for: .milliseconds(600))
    var received: [Bytes] = []
    await #expect(throws: TestError.reason) { while let chunk = try await a.read() { received.append(chunk) } }
    #expect(received == (0..<count).map { Bytes("\($0)") })
    await #expect(throws: TestError.reason) { try await bridged.value }
  }

  /// Its reader hears of an abort while that still goes on.
  private final class SlowToAbort: DuplexStream {
    private struct Consequence: Error {}
    private let (readers, ends) = AsyncStream<Void>.makeStream()

    func read() async throws -> Bytes? {
      for await _ in readers {}
      throw Consequence()
    }
    func cancel(_ reason: (any Error)?) {}
    func write(_ element: Bytes) async throws {}
    func close() async throws {}
    func abort(_ reason: any Error) {
      ends.finish()
      usleep(200_000)
    }
  }

  @Test("what goes wrong in closing what was held back is told")
  func failingClose() async throws {
    let (a, nearA) = Memory.pair()
    let bridged = Task { try await bridge(nearA, FailingToClose(), options: BridgeOptions(onEnd: .defer)) }
    try await a.close()
    await #expect(throws: TestError.reason) { try await bridged.value }
  }

  /// Has nothing to say.
  private final class FailingToClose: DuplexStream {
    var endsAsOne: Bool { true }
    func read() async throws -> Bytes? { nil }
    func cancel(_ reason: (any Error)?) {}
    func write(_ element: Bytes) async throws {}
    func close() async throws { throw TestError.reason }
    func abort(_ reason: any Error) {}
  }

  @Test("silence in the other direction after an end is limited")
  func timeout() async throws {
    let (a, nearA) = Memory.pair()
    let (b, nearB) = Memory.pair()
    let bridged = Task { try await bridge(nearA, nearB, options: BridgeOptions(halfCloseTimeout: .milliseconds(50))) }
    try await a.close()
    #expect(try await b.read() == nil)
    await #expect(throws: StreamError.halfCloseTimeout(.milliseconds(50))) { try await bridged.value }
  }

  @Test("a direction that goes on is not cut by the time limit")
  func activity() async throws {
    let (a, nearA) = Memory.pair()
    let (b, nearB) = Memory.pair()
    let bridged = Task { try await bridge(nearA, nearB, options: BridgeOptions(halfCloseTimeout: .seconds(3))) }
    try await a.close()
    async let received = readAll(a)
    for _ in 0..<40 {
      try await Task.sleep(for: .milliseconds(100))
      try await b.write("x")
    }
    try await b.close()
    #expect(try await received.count == 40)
    try await bridged.value
  }

  @Test("close-both ends both directions at the first end")
  func closeBoth() async throws {
    let (a, nearA) = Memory.pair()
    let (b, nearB) = Memory.pair()
    let bridged = Task { try await bridge(nearA, nearB, options: BridgeOptions(onEnd: .closeBoth)) }
    try await a.close()
    try await bridged.value
    #expect(try await b.read() == nil)
    #expect(try await a.read() == nil)
  }
}
