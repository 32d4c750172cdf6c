import SluiceStreams
import SluiceTestSupport
import Synchronization
import Testing

@Suite("A simple stream on a loop", .timeLimit(.minutes(1)))
struct LoopStreamTests {
  /// A byte stream of the simple gear that counts what is asked of it, and waits until it is cancelled.
  private final class Silent: DuplexStream {
    typealias Output = Bytes
    typealias Input = Bytes
    let reads = Counter()
    let writes = Counter()
    let isCancelled = Counter()

    func read() async throws -> Bytes? {
      reads.add(1)
      try await Task.sleep(for: .seconds(3600))
      return nil
    }
    func write(_ bytes: Bytes) async throws {
      writes.add(1)
      try await Task.sleep(for: .seconds(3600))
    }
    func close() async throws {}
    func cancel(_ reason: (any Error)?) { isCancelled.add(1) }
    func abort(_ reason: any Error) {}
  }

  @Test("it reads one chunk further than it is asked to, and no more")
  func readAhead() async throws {
    let loop = SimulatedLoop()
    let count = Counter()
    try await loop.simulate {
      let source = Readable<Bytes> {
        count.add(1)
        return "chunk"
      }
      let stream = LoopStream(
        JoinedStream(reading: source, writing: Writable<Bytes> { _ in }), on: loop)
      try await loop.sleep(for: .seconds(1))
      #expect(count.value == 0)
      let first = try await stream.read()
      #expect(first == "chunk")
      try await loop.sleep(for: .seconds(1))
      #expect(count.value <= 2)
    }
  }

  @Test("what waits to be written is bounded by the watermark and one chunk, and the writer goes on below it")
  func watermark() async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      let taken = Counter()
      let sink = Writable<Bytes> { bytes in
        try await loop.sleep(for: .seconds(1))
        taken.add(bytes.count)
      }
      let stream = LoopStream(
        JoinedStream(reading: Readable<Bytes> { nil }, writing: sink), on: loop, highWatermark: 1000)
      for _ in 0..<100 {
        try await stream.write(Bytes([UInt8](repeating: 1, count: 300)))
        #expect(stream.queuedByteCount < 1000)
      }
      try await stream.close()
      #expect(taken.value == 30_000)
    }
  }

  @Test("an abort ends the tasks that read and write, and nothing keeps the stream")
  func abort() async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      let base = Silent()
      weak var left: LoopStream<Silent>?
      do {
        let stream = LoopStream(base, on: loop)
        left = stream
        let reading = Task(executorPreference: loop) { try await stream.read() }
        try await stream.write("never taken")
        try await loop.sleep(for: .seconds(1))
        stream.abort(TestError.reason)
        await #expect(throws: TestError.reason) { try await reading.value }
        await #expect(throws: TestError.reason) { try await stream.write("late") }
      }
      #expect(base.isCancelled.value == 1)
      #expect(try await isGone { left })
    }
  }

  @Test("cancel and close end the tasks too")
  func cancelAndClose() async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      let base = Silent()
      weak var left: LoopStream<Silent>?
      do {
        let stream = LoopStream(base, on: loop)
        left = stream
        let reading = Task(executorPreference: loop) { try await stream.read() }
        try await loop.sleep(for: .seconds(1))
        stream.cancel(nil)
        #expect(try await reading.value == nil)
        try await stream.close()
      }
      #expect(try await isGone { left })
    }
  }

  @Test("a source that always has something leaves the loop to others")
  func fairness() async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      let stream = LoopStream(
        JoinedStream(reading: Readable<Bytes> { "more" }, writing: Writable<Bytes> { _ in }), on: loop)
      let piping = Task(executorPreference: loop) { try await stream.pipe(stream) }
      for _ in 0..<100 { await Task.yield() }
      piping.cancel()
      await #expect(throws: CancellationError.self) { try await piping.value }
    }
  }

  @Test("a stream that lives on a loop already is left as it is")
  func polledAlready() async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      let (near, _) = SimulatedNetwork(loop: loop).connection()
      #expect(near.polled(on: loop) is SimulatedStream)
    }
  }
}

/// Whether an object that nobody holds any more goes, within a second.
private func isGone(_ object: () -> AnyObject?) async throws -> Bool {
  for _ in 0..<1000 where object() != nil { try await Task.sleep(for: .milliseconds(1)) }
  return object() == nil
}
