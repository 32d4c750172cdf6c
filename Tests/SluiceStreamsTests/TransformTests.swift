import SluiceTestSupport
import Synchronization
import Testing

@testable import SluiceStreams

@Suite("Transforms and operators")
struct TransformTests {
  private func bytes(_ chunks: Bytes...) -> SequenceStream<Bytes> { SequenceStream(chunks) }

  @Test("the operators do what their namesakes of Sequence do")
  func operators() async throws {
    let numbers = { SequenceStream(1...5) }
    #expect(try await numbers().map { $0 * 2 }.collect(limit: 9) == [2, 4, 6, 8, 10])
    #expect(try await numbers().filter { $0 % 2 == 1 }.collect(limit: 9) == [1, 3, 5])
    #expect(try await numbers().compactMap { $0 > 3 ? "\($0)" : nil }.collect(limit: 9) == ["4", "5"])
    #expect(try await numbers().flatMap { [$0, -$0] }.prefix(3).collect(limit: 9) == [1, -1, 2])
    #expect(try await numbers().scan(0, +).collect(limit: 9) == [1, 3, 6, 10, 15])
    #expect(try await numbers().prefix(0).collect(limit: 9) == [])
  }

  @Test(
    "what a pipe takes at once and has no room for stays, in its order, unless nobody wants it any more",
    arguments: 0...4)
  func takenAtOnce(room: Int) throws {
    let stage = SharedStage(DelimiterDecoder(UInt8(ascii: "\n"), limit: 9))
    _ = try stage.run { try $0.start() }
    _ = try stage.run { try $0.accept("a\nb\nc\nd\n") }
    let taken = stage.takeReady()
    #expect(taken.map(\.string) == ["a", "b", "c", "d"])
    #expect(stage.takeReady().isEmpty)
    stage.putBack(taken[room...])
    for line in ["a", "b", "c", "d"].dropFirst(room) {
      guard case .element(let element) = try stage.next() else { return #expect(Bool(false), "no \(line)") }
      #expect(element.string == line)
    }
    guard case .needsInput = try stage.next() else { return #expect(Bool(false), "there is more") }
    _ = try stage.run { try $0.accept("e\nf\n") }
    let last = stage.takeReady()
    stage.drop()
    #expect(stage.isDropped)
    stage.putBack(last[...])
    guard case .end = try stage.next() else { return #expect(Bool(false), "it was dropped") }
  }

  @Test("a pipe through a transform gives a sink no more than it has room for", arguments: [1, 3, 64, 100])
  func pipedWithLittleRoom(watermark: Int) async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      var network = SimulatedNetwork(loop: loop)
      network.window = watermark
      let (near, far) = network.connection()
      let (source, end) = SimulatedNetwork(loop: loop).connection()
      let text = (0..<500).map { "\($0)\n" }.joined()
      let lines = end.pipe(through: DelimiterDecoder(UInt8(ascii: "\n"), limit: 9))
      let piping = Task(executorPreference: loop) { try await lines.map { Bytes($0.string + "!") }.pipe(near) }
      try await source.write(Bytes(text))
      try await source.close()
      var received = ""
      while let chunk = try await far.read() { received += chunk.string }
      try await piping.value
      #expect(received == (0..<500).map { "\($0)!" }.joined())
    }
  }

  @Test("the asynchronous forms keep the order")
  func asyncOperators() async throws {
    let slow: @Sendable (Int) async throws -> Int = { number in
      try await Task.sleep(for: .milliseconds(6 - number))
      return number
    }
    #expect(try await SequenceStream(1...5).map(slow).collect(limit: 9) == [1, 2, 3, 4, 5])
    let isOdd: @Sendable (Int) async throws -> Bool = { try await slow($0) % 2 == 1 }
    #expect(try await SequenceStream(1...5).filter(isOdd).collect(limit: 9) == [1, 3, 5])
  }

  @Test("the first 0 elements of a source that gives nothing are there at once")
  func emptyPrefix() async throws {
    let (near, far) = MemoryStream<Int>.pair()
    try await withTimeLimit(.seconds(20)) {
      let none = try await near.prefix(0).collect(limit: 9)
      #expect(none.isEmpty)
    }
    await #expect(throws: StreamError.closed) { try await far.write(1) }
    #expect(try await SequenceStream(1...3).prefix(-1).collect(limit: 9) == [])
  }

  private struct Header: Transform {
    func start(into output: inout TransformOutput<String>) { output.append("begin") }
    func transform(_ input: consuming String, into output: inout TransformOutput<String>) { output.append(input) }
    func finish(into output: inout TransformOutput<String>) { output.append("end") }
  }

  @Test("what a transform gives at its start stands before all elements, on either side of a stream")
  func start() async throws {
    #expect(try await SequenceStream(["x"]).pipe(through: Header()).collect(limit: 9) == ["begin", "x", "end"])
    #expect(try await SequenceStream([String]()).pipe(through: Header()).collect(limit: 9) == ["begin", "end"])
    let (near, far) = MemoryStream<String>.pair()
    try await near.behind(Header()).close()
    #expect(try await far.collect(limit: 9) == ["begin", "end"])
  }

  @Test("cancelling a read of an asynchronous stage leaves it as it was")
  func cancelledStage() async throws {
    let (near, far) = MemoryStream<Int>.pair()
    let mapped = near.map { number async throws -> Int in
      if number == 1 { try await Task.sleep(for: .seconds(1000)) }
      return number
    }
    let reading = Task { try await mapped.read() }
    try await far.write(1)
    try await Task.sleep(for: .milliseconds(20))
    await #expect(throws: StreamError.concurrentRead) { try await mapped.read() }
    reading.cancel()
    await #expect(throws: CancellationError.self) { try await reading.value }
    try await far.write(2)
    #expect(try await mapped.read() == 2)
  }

  @Test("what a closure that waits throws cancels the source and is thrown again at every read")
  func throwingStage() async throws {
    let (near, far) = MemoryStream<Int>.pair()
    try await far.write(1)
    let mapped = near.map { _ async throws -> Int in throw TestError.reason }
    await #expect(throws: TestError.reason) { try await mapped.read() }
    await #expect(throws: TestError.reason) { try await mapped.read() }
    await #expect(throws: StreamError.closed) { try await far.write(2) }
  }

  @Test("what a closure throws cancels the source and is thrown again at every read")
  func throwing() async throws {
    let (near, far) = MemoryStream<Int>.pair()
    try await far.write(1)
    let mapped = near.map { _ -> Int in throw TestError.reason }
    await #expect(throws: TestError.reason) { try await mapped.read() }
    await #expect(throws: TestError.reason) { try await mapped.read() }
    await #expect(throws: StreamError.closed) { try await far.write(2) }
  }

  @Test("lines end with LF or CRLF, however the bytes are cut; the last needs no end")
  func lines() async throws {
    for size in 1...12 {
      let source = bytes("one\r\ntwo\n\nthr\ree").chunks(of: size)
      #expect(try await source.lines.collect(limit: 9) == ["one", "two", "", "thr\ree"])
    }
    #expect(try await bytes("a\n").lines.collect(limit: 9) == ["a"])
    #expect(try await bytes().lines.collect(limit: 9) == [])
  }

  @Test("a line beyond the limit fails, with the limit in the error")
  func lineLimit() async throws {
    let long = bytes("12345", "678").pipe(through: LineDecoder(limit: 6))
    await #expect(throws: StreamError.limitExceeded(what: "a line or delimited element", limit: 6, actual: 8)) {
      try await long.read()
    }
  }

  @Test("a line that comes byte by byte is held in few pieces")
  func partialElement() throws {
    var partial = PartialElement()
    for number in 0..<300_000 {
      try partial.append(Bytes([UInt8(truncatingIfNeeded: number)]), limit: 1 << 20, what: "a line")
    }
    try partial.append(Bytes([UInt8](repeating: 9, count: 10_000)), limit: 1 << 20, what: "a line")
    #expect(partial.pieceCount < 10)
    let all = (0..<300_000).map { UInt8(truncatingIfNeeded: $0) } + [UInt8](repeating: 9, count: 10_000)
    #expect(partial.take() == Bytes(all))
    #expect(partial.count == 0 && partial.take().isEmpty)
  }

  @Test("elements between NUL bytes")
  func nullTerminated() async throws {
    #expect(try await bytes("a\0b", "c\0\0").nullTerminated.collect(limit: 9) == ["a", "bc", ""])
  }

  @Test("length prefixes are written and read back, cut anywhere", arguments: [1, 2, 3, 5, 100])
  func lengthPrefixed(size: Int) async throws {
    let elements: [Bytes] = ["", "a", "hello", ""]
    let encoded = SequenceStream(elements).pipe(through: LengthPrefixEncoder()).chunks(of: size)
    #expect(try await encoded.lengthPrefixed.collect(limit: 9) == elements)
  }

  @Test("an announced length beyond the limit fails before anything is kept; a missing rest is truncation")
  func lengthPrefixLimits() async throws {
    let tooLong = bytes([0xFF, 0xFF, 0xFF, 0xFF]).pipe(through: LengthPrefixDecoder(limit: 10))
    await #expect(
      throws: StreamError.limitExceeded(what: "a length-prefixed element", limit: 10, actual: 0xFFFF_FFFF)
    ) { try await tooLong.read() }
    let short = bytes([0, 0, 0, 3, 1]).lengthPrefixed
    await #expect(throws: StreamError.truncated(what: "a length-prefixed element", expected: 3, actual: 1)) {
      try await short.read()
    }
  }

  @Test("chunks have one size, but for the last")
  func chunks() async throws {
    #expect(try await bytes("abc", "defg", "h").chunks(of: 3).collect(limit: 9) == ["abc", "def", "gh"])
  }

  @Test("collect stops at its limit and cancels the source")
  func collectLimit() async throws {
    let (near, far) = MemoryStream<Bytes>.pair()
    try await far.write("12345")
    await #expect(throws: StreamError.limitExceeded(what: "the collected data", limit: 4, actual: 5)) {
      let _: Bytes = try await near.collect(limit: 4)
    }
    await #expect(throws: StreamError.closed) { try await far.write("6") }
  }

  @Test("a sink behind a transform is flushed by close")
  func sink() async throws {
    let (near, far) = MemoryStream<Bytes>.pair()
    let sink = near.behind(ChunkTransform(size: 4))
    try await sink.write("abcdef")
    try await sink.close()
    #expect(try await far.collect(limit: 9) == ["abcd", "ef"])
  }
}

/// Sinks behind transforms, in both gears.
@Suite("Transformed sinks", .timeLimit(.minutes(1)))
struct TransformedSinkTests {
  /// Gives each chunk twice, and ends behind the second.
  private struct Twice: Transform {
    var count = 0
    mutating func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) {
      output.append(copy input)
      output.append(input)
      count += 1
      if count == 2 { output.end() }
    }
  }

  private struct Failing: Transform {
    func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) throws {
      if input == "bad" { throw TestError.reason }
      output.append(input)
    }
  }

  private static let pairs = [StreamPair.memory, .simulated]

  @Test("writing after close throws", arguments: pairs)
  func closed(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      let sink = behind(a, ChunkTransform(size: 4))
      try await sink.write("abcdef")
      try await sink.close()
      try await sink.close()
      await #expect(throws: StreamError.closed) { try await sink.write("late") }
      #expect(try await readAll(b) == "abcdef")
    }
  }

  @Test("a transform that ends closes the sink, and a pipe cancels its endless source", arguments: pairs)
  func ended(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      let isCancelled = Counter()
      let endless = Readable<Bytes>(onCancel: { _ in isCancelled.add(1) }) { "x" }
      await #expect(throws: StreamError.closed) { try await pipe(endless, into: behind(a, Twice())) }
      #expect(isCancelled.value == 1)
      let all = try await readAll(b)
      #expect(all == "xxxx")
    }
  }

  @Test("what the transform throws aborts the sink, and every write throws it again", arguments: pairs)
  func failing(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      let sink = behind(a, Failing())
      try await sink.write("good")
      #expect(try await read(4, from: b) == "good")
      await #expect(throws: TestError.reason) { try await sink.write("bad") }
      await #expect(throws: TestError.reason) { try await sink.write("good") }
      await #expect(throws: (any Error).self) { try await b.read() }
    }
  }

  @Test("the same inside a loop's callbacks: a pump into a transform that ends, and one that throws")
  func pumped() async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      let network = SimulatedNetwork(loop: loop)
      let (feeder, source) = network.connection()
      let (sink, reader) = network.connection()
      let piping = Task(executorPreference: loop) { try await source.pipe(sink.behind(Twice())) }
      for _ in 0..<3 {
        try? await feeder.write("x")
        try await loop.sleep(for: .seconds(1))
      }
      await #expect(throws: StreamError.closed) { try await piping.value }
      #expect(try await readAll(reader) == "xxxx")
      let (feeder2, source2) = network.connection()
      let (sink2, reader2) = network.connection()
      let failing = Task(executorPreference: loop) { try await source2.pipe(sink2.behind(Failing())) }
      try await feeder2.write("bad")
      await #expect(throws: TestError.reason) { try await failing.value }
      await #expect(throws: (any Error).self) { try await reader2.read() }
    }
  }

  /// Gives so many of each element.
  private struct Copies: Transform {
    let count: Int
    func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) {
      for number in 0..<count { output.append(Bytes("\(number)\(input.string)")) }
    }
  }

  @Test(
    "what a transform makes of an element arrives in order, however much it is and however little room there is",
    arguments: [0, 1, 2, 65, 200], [1, 5, 64 << 10])
  func copies(count: Int, window: Int) async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      var network = SimulatedNetwork(loop: loop)
      network.window = window
      let (sink, reader) = network.connection()
      let (feeder, source) = SimulatedNetwork(loop: loop).connection()
      let piping = Task(executorPreference: loop) {
        try await source.pipe(through: DelimiterDecoder(10)).pipe(sink.behind(Copies(count: count)))
      }
      try await feeder.write("a\nb\nc\n")
      try await feeder.close()
      let expected = ["a", "b", "c"].flatMap { letter in (0..<count).map { "\($0)\(letter)" } }.joined()
      #expect(try await readAll(reader).string == expected)
      try await piping.value
    }
  }

  /// Does something to the stream that it stands in, at the second element.
  private struct Meddling: Transform {
    let meddle: @Sendable () -> Void
    var count = 0
    mutating func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) {
      count += 1
      output.append(input)
      if count == 2 { meddle() }
    }
  }

  enum Misuse: CaseIterable {
    case aborts, pushes
  }

  @Test("a transform that uses its own sink while it runs does not bring it into disorder", arguments: Misuse.allCases)
  func meddling(_ kind: Misuse) async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      let (sink, reader) = SimulatedNetwork(loop: loop).connection()
      let own = Mutex<TransformedSink<Meddling, SimulatedStream>?>(nil)
      let error = Mutex<(any Error)?>(nil)
      let transformed = sink.behind(
        Meddling {
          let stream = own.withLock { $0 }
          switch kind {
          case .aborts: stream?.abort(TestError.reason)
          case .pushes: do { try stream?.push("x") } catch let thrown { error.withLock { $0 = thrown } }
          }
        })
      own.withLock { $0 = transformed }
      defer { own.withLock { $0 = nil } }
      try await loop.run {
        try transformed.push("a")
        switch kind {
        case .aborts:
          #expect(throws: (any Error).self) {
            try transformed.push("b")
            try transformed.push("c")
          }
        case .pushes:
          try transformed.push("b")
          #expect(error.withLock { $0 as? StreamError } == .concurrentRead)
          try transformed.push("c")
        }
      }
      if kind == .pushes {
        try await transformed.close()
        #expect(try await readAll(reader) == "abc")
      }
    }
  }

  /// Notes what comes, and does something when the third element does.
  private final class AtThird: PolledWritableStream {
    typealias Input = Bytes

    let loop: any Loop
    private let state = Mutex<(elements: [Bytes], atThird: (@Sendable () -> Void)?)>(([], nil))
    var elements: [Bytes] { state.withLock { $0.elements } }

    init(loop: any Loop) { self.loop = loop }

    func atThird(_ body: @escaping @Sendable () -> Void) { state.withLock { $0.atThird = body } }

    func hasRoom() -> Bool { true }
    func push(_ element: consuming Bytes) {
      var box = Optional(element)
      let body = state.withLock { state in
        if let element = box.take() { state.elements.append(element) }
        return state.elements.count == 3 ? state.atThird : nil
      }
      body?()
    }
    func flush() {}
    func attachWriter(_ waker: any Waker) {}
    func detachWriter() {}
    func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) { completion(nil) }
    func close() async {}
    func abort(_ reason: any Error) {}
  }

  @Test("a source that is cancelled while its sink takes an element gives no more, of what it has ready neither")
  func cancelledWithin() async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      let (feeder, source) = SimulatedNetwork(loop: loop).connection()
      let lines = source.pipe(through: DelimiterDecoder(10))
      let sink = AtThird(loop: loop)
      sink.atThird { lines.cancel(nil) }
      let piping = Task(executorPreference: loop) { try await lines.pipe(sink) }
      try await feeder.write("a\nb\nc\nd\ne\n")
      try await piping.value
      #expect(sink.elements == ["a", "b", "c"])
    }
  }

  @Test("a write that is cancelled between two elements of one has taken it: the rest leaves before the next")
  func cancelled() async throws {
    let (near, far) = MemoryStream<Bytes>.pair(highWatermark: 1)
    let sink = near.behind(Twice())
    let writing = Task { try await sink.write("a") }
    try await Task.sleep(for: .milliseconds(20))
    await #expect(throws: StreamError.concurrentWrite) { try await sink.write("c") }
    writing.cancel()
    try await writing.value
    async let second: Void = sink.write("b")
    #expect(try await readAll(far) == "aabb")
    try await second
  }
}

private func behind(
  _ stream: some WritableStream<Bytes>, _ transform: some Transform<Bytes, Bytes>
) -> any WritableStream<Bytes> {
  stream.behind(transform)
}

private func pipe(_ source: some ReadableStream<Bytes>, into sink: some WritableStream<Bytes>) async throws {
  try await source.pipe(sink)
}

@Suite("Memory streams")
struct MemoryStreamTests {
  @Test("an abort behind a close cuts off what was not read; what was read to the end has ended well")
  func abortBehindClose() async throws {
    let (a, b) = MemoryStream<Int>.pair()
    try await a.write(1)
    try await a.close()
    a.abort(TestError.reason)
    await #expect(throws: TestError.reason) { try await b.read() }
    let (c, d) = MemoryStream<Int>.pair()
    try await c.write(1)
    try await c.close()
    #expect(try await d.read() == 1)
    c.abort(TestError.reason)
    #expect(try await d.read() == nil)
  }
}

@Suite("A sink behind a transform that is closed twice", .timeLimit(.minutes(1)))
struct SecondCloseTests {
  @Test("the second close waits for the first, and succeeds")
  func secondClose() async throws {
    let (near, far) = MemoryStream<Bytes>.pair(highWatermark: 1)
    let sink = near.behind(LineEncoder())
    try await sink.write("one")
    let closing = (0..<2).map { _ in Task { try await sink.close() } }
    #expect(try await far.read() == "one\n")
    #expect(try await far.read() == nil)
    for task in closing { try await task.value }
  }

  @Test("a close that waits behind a write can be cancelled, and the write goes on")
  func cancelledClose() async throws {
    let (near, far) = MemoryStream<Bytes>.pair(highWatermark: 1)
    let sink = near.behind(LineEncoder())
    try await sink.write("one")
    let writing = Task { try await sink.write("two") }
    try await Task.sleep(for: .milliseconds(20))
    let closing = Task { try await sink.close() }
    try await Task.sleep(for: .milliseconds(20))
    closing.cancel()
    await #expect(throws: CancellationError.self) { try await closing.value }
    #expect(try await far.read() == "one\n")
    try await writing.value
    #expect(try await far.read() == "two\n")
  }
}

@Suite("Tee", .timeLimit(.minutes(1)))
struct TeeTests {
  @Test("every branch gives every element")
  func all() async throws {
    let branches = SequenceStream(1...100).tee(.wait, .buffer(10), .wait)
    async let a = branches[0].collect(limit: 1000)
    async let b = branches[1].collect(limit: 1000)
    async let c = branches[2].collect(limit: 1000)
    #expect(try await [a, b, c] == Array(repeating: Array(1...100), count: 3))
  }

  @Test("the slowest branch governs")
  func slowest() async throws {
    let (source, far) = MemoryStream<Int>.pair(highWatermark: 1)
    let branches = source.tee(.wait, .wait)
    try await far.write(1)
    #expect(try await branches[0].read() == 1)
    let second = Task { try await branches[0].read() }
    try await far.write(2)
    try await Task.sleep(for: .milliseconds(20))
    // The other has not read the first yet, so the second is not fetched: the source's queue stays full.
    let third = Task { try await far.write(3) }
    #expect(try await branches[1].read() == 1)
    #expect(try await second.value == 2)
    #expect(try await branches[1].read() == 2)
    third.cancel()
    _ = try? await third.value
  }

  @Test("dropOldest keeps the latest, dropNewest the first, disconnect fails")
  func policies() async throws {
    let branches = SequenceStream(1...5).tee(.wait, .dropOldest(2), .dropNewest(2), .disconnect(2))
    #expect(try await branches[0].collect(limit: 9) == [1, 2, 3, 4, 5])
    #expect(try await branches[1].collect(limit: 9) == [4, 5])
    #expect(try await branches[2].collect(limit: 9) == [1, 2])
    #expect(try await branches[3].read() == 1)
    #expect(try await branches[3].read() == 2)
    await #expect(throws: StreamError.tooSlow(bufferedBytes: 2)) { try await branches[3].read() }
  }

  @Test("a limit of bytes counts what small elements cost beside their payload")
  func smallElements() async throws {
    let chunks = (0..<1000).map { Bytes("\($0 % 10)") }
    let branches = SequenceStream(chunks).tee(.wait, .dropOldest(1610), .dropNewest(1610))
    #expect(try await branches[0].collect(limit: 1001).count == 1000)
    #expect(try await branches[1].collect(limit: 1001) == Array(chunks.suffix(10)))
    #expect(try await branches[2].collect(limit: 1001) == Array(chunks.prefix(10)))
  }

  @Test("a cancelled branch is left out, and the last cancels the source")
  func cancel() async throws {
    let (source, far) = MemoryStream<Int>.pair()
    let branches = source.tee(.wait, .wait)
    try await far.write(1)
    branches[1].cancel()
    #expect(try await branches[0].read() == 1)
    try await far.write(2)
    #expect(try await branches[0].read() == 2)
    branches[0].cancel()
    await #expect(throws: StreamError.closed) { try await far.write(3) }
  }

  @Test("a branch whose read is cancelled leaves the others reading")
  func cancelledRead() async throws {
    let (source, far) = MemoryStream<Int>.pair()
    let branches = source.tee(.wait, .wait)
    let first = Task { try await branches[0].read() }
    try await Task.sleep(for: .milliseconds(10))
    let second = Task { try await branches[1].read() }
    try await Task.sleep(for: .milliseconds(10))
    first.cancel()
    await #expect(throws: CancellationError.self) { try await first.value }
    try await far.write(1)
    #expect(try await second.value == 1)
    #expect(try await branches[0].read() == 1)
  }
}
