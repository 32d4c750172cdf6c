import SluiceIO
import SluiceStreams
import SluiceTestSupport
import Synchronization
import Testing

/// The contract of DESIGN.md, on every kind of connection, through both gears.
@Suite("The stream contract", .timeLimit(.minutes(2)))
struct ContractTests {
  @Test("bytes arrive in order, then nil, and nil again", arguments: StreamPair.allCases)
  func order(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      try await a.write("one ")
      try await a.write("")
      try await a.write("two")
      try await a.close()
      #expect(try await readAll(b) == "one two")
      #expect(try await b.read() == nil)
      #expect(try await b.read() == nil)
    }
  }

  @Test("halves end independently: after our end the peer still answers", arguments: StreamPair.allCases)
  func halfClose(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      try await a.write("question")
      try await a.close()
      #expect(try await readAll(b) == "question")
      try await b.write("answer")
      try await b.close()
      #expect(try await readAll(a) == "answer")
    }
  }

  @Test("a second concurrent read throws, and the first still gets its element", arguments: StreamPair.allCases)
  func concurrentRead(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      async let first = readUnrefused(b)
      // The first is waiting once a second is refused; before that, the second would wait itself, and the first be refused.
      try await untilRefused(b)
      try await a.write("x")
      #expect(try await first == "x")
    }
  }

  @Test("cancelling a read leaves the stream as it was", arguments: StreamPair.allCases)
  func cancelledRead(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      let reading = Task { try await b.read() }
      for _ in 0..<20 { await Task.yield() }
      reading.cancel()
      await #expect(throws: CancellationError.self) { try await reading.value }
      try await a.write("still here")
      #expect(try await read(10, from: b) == "still here")
    }
  }

  @Test("leaving a for-await early loses nothing", arguments: StreamPair.allCases)
  func earlyExit(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      try await a.write("a")
      try await iterateOnce(b)
      try await a.write("bc")
      try await a.close()
      #expect(try await readAll(b) == "bc")
    }
  }

  @Test("writing after close throws, closing twice is success", arguments: StreamPair.allCases)
  func writeAfterClose(_ pair: StreamPair) async throws {
    try await pair.run { a, _ in
      try await a.close()
      try await a.close()
      await #expect(throws: StreamError.closed) { try await a.write("late") }
    }
  }

  @Test("an abort fails the peer's reading, and our own writing with its reason", arguments: StreamPair.allCases)
  func abort(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      try await a.write("x")
      _ = try await b.read()
      a.abort(TestError.reason)
      try await expectAbort(seenBy: b, pair)
      await #expect(throws: TestError.reason) { try await a.write("late") }
    }
  }

  @Test("a reader that stops stops the writer; all bytes arrive once it goes on", arguments: StreamPair.allCases)
  func backpressure(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      let total = pair == .simulatedInPieces ? 40_000 : 16 << 20
      let chunk = pair == .simulatedInPieces ? 1000 : 64 << 10
      let written = Counter()
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask {
          for _ in 0..<total / chunk {
            try await a.write(Bytes([UInt8](repeating: 7, count: chunk)))
            written.add(chunk)
          }
          try await a.close()
        }
        try await untilStanding(written, on: b)
        #expect(written.value < total)
        #expect(try await readAll(b).count == total / chunk * chunk)
        try await group.waitForAll()
      }
    }
  }

  @Test("a pipe moves everything, closes its sink and returns", arguments: StreamPair.allCases)
  func pipe(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      async let echo: Void = move(b, into: b)
      try await a.write("hello")
      try await a.close()
      #expect(try await readAll(a) == "hello")
      try await echo
    }
  }

  @Test("a pipe with preventClose leaves its sink open", arguments: StreamPair.allCases)
  func preventClose(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      try await SequenceStream(["one" as Bytes]).pipe(opening: a, PipeOptions(preventClose: true))
      try await a.write("two")
      try await a.close()
      #expect(try await readAll(b) == "onetwo")
    }
  }

  @Test(
    "a source that fails ends the sink behind all that it gave, whose peer is told; the pipe throws its error",
    arguments: StreamPair.allCases)
  func sourceFails(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      let isFirst = Mutex(true)
      let source = Readable<Bytes> {
        if isFirst.withLock({ first in
          defer { first = false }
          return first
        }) {
          return "all that there was"
        }
        throw TestError.reason
      }
      async let received = readToFailure(b)
      await #expect(throws: TestError.reason) { try await source.pipe(opening: a, PipeOptions()) }
      let (bytes, hasFailed) = try await received
      #expect(bytes == "all that there was")
      #expect(hasFailed || !pair.tellsOfFailure)
    }
  }

  @Test("a sink that fails cancels the source", arguments: StreamPair.allCases)
  func sinkFails(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      let sink = Writable<Bytes> { _ in throw TestError.reason }
      try await a.write("x")
      await #expect(throws: TestError.reason) { try await move(b, into: sink) }
      #expect(try await b.read() == nil)
    }
  }

  @Test("a sink that fails as it is flushed ends the pipe, though its source is quiet", arguments: [StreamPair.tcp])
  func sinkFailsWhileSourceIsQuiet(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      try await pair.run { source, feeder in
        b.abort(TestError.reason)
        // The reset has come when reading tells of it.
        await #expect(throws: (any Error).self) { try await readAll(a) }
        let piping = Task { try await move(source, into: a) }
        try await feeder.write("one element, and then silence")
        await #expect(throws: (any Error).self) { try await piping.value }
      }
    }
  }

  @Test("a stream that says that it is dry has nothing until its reader is woken", arguments: StreamPair.onLoop)
  func dry(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      guard let source = b as? any PolledDuplexStream<Bytes, Bytes> else { return }
      let waker = CountingWaker()
      var dryRounds = 0
      for round in 1...20 {
        dryRounds += try await source.loop.run {
          if round == 1 { try source.attachReader(waker) }
          // All of the round before was taken; the first of these has the system tell of the next.
          for _ in 1...2 {
            let isPending = if case .pending = try source.poll() { true } else { false }
            #expect(isPending)
          }
          return source.isDry ? 1 : 0
        }
        let wakes = try await source.loop.run { waker.count }
        try await a.write(Bytes([UInt8](repeating: 1, count: round * 1000)))
        // Whatever came is told to a reader that was left with nothing.
        var count = 0
        while count < round * 1000 {
          count += try await source.loop.run {
            guard !source.isDry, case .element(let bytes) = try source.poll() else { return 0 }
            return bytes.count
          }
          try await pause(on: source)
        }
        #expect(try await source.loop.run { waker.count } > wakes)
      }
      #expect(dryRounds == 20)
      try await source.loop.run { source.detachReader() }
    }
  }

  @Test(
    "what a stream lends, and what is left of it, is what it would have given; its end too",
    arguments: StreamPair.onLoop)
  func lending(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      guard let source = b as? any PolledDuplexStream<Bytes, Bytes> else { return }
      let sent = (0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 7) }
      async let writing: Void = {
        for start in stride(from: 0, to: sent.count, by: 7919) {
          try await a.write(Bytes(sent[start..<min(start + 7919, sent.count)]))
        }
        try await a.close()
      }()
      let waker = CountingWaker()
      try await source.loop.run { try source.attachReader(waker) }
      let record = LendingRecord()
      while try await !source.loop.run({ try record.poll(source) }) { try await pause(on: source) }
      try await source.loop.run { source.detachReader() }
      try await writing
      #expect(record.received == sent)
      // From all of a chunk to nothing of it was used.
      #expect(record.kinds.count == 3)
    }
  }

  @Test(
    "what is pushed leaves at the end of the turn, by itself, in order, and also through a transform",
    arguments: StreamPair.allCases)
  func endOfTurn(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      guard let sink = a as? any PolledDuplexStream<Bytes, Bytes> else { return }
      try await pushInOneTurn(["one ", "", "two "], into: sink)
      #expect(try await read(8, from: b) == "one two ")
      try await pushInOneTurn(["three", "four"], into: lines(into: sink))
      #expect(try await read(11, from: b) == "three\nfour\n")
    }
  }

  @Test("what is to leave now has left when the call returns", arguments: StreamPair.polled)
  func flushNow(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      guard let sink = a as? any PolledDuplexStream<Bytes, Bytes> else { return }
      try await sink.loop.run {
        try sink.push("one ")
        sink.flush()
        #expect(sink.queuedByteCount == 0)
        let sent = sink.sendAtOnce(Bytes("two ").span)
        #expect(sent == 4 || sent == 0)
        if sent == 0 { try sink.push("two ") }
        try sink.push("three")
      }
      #expect(try await read(13, from: b) == "one two three")
    }
  }

  @Test("room that the writer's own flush made is told, though nothing else happens", arguments: StreamPair.polled)
  func roomByOwnFlush(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      guard let sink = a as? any PolledDuplexStream<Bytes, Bytes> else { return }
      try await sink.loop.run {
        let waker = CountingWaker()
        try sink.attachWriter(waker)
        while try sink.hasRoom() { try sink.push(Bytes([UInt8](repeating: 1, count: 1000))) }
        #expect(waker.count == 0)
        sink.flush()
        #expect(waker.count > 0)
        #expect(try sink.hasRoom())
        sink.detachWriter()
      }
    }
  }

  @Test(
    "a write that is cancelled behind the watermark has its element taken, and returns", arguments: StreamPair.polled)
  func cancelledWrite(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      let taken = Counter()
      let element = Bytes([UInt8](repeating: 7, count: 500))
      let writing = Task {
        while !Task.isCancelled {
          try await a.write(element)
          taken.add(element.count)
        }
      }
      try await untilStanding(taken, on: b)
      writing.cancel()
      // One that had no room from the start has not been taken.
      do { try await writing.value } catch is CancellationError {}
      async let closed: Void = a.close()
      #expect(try await readAll(b).count == taken.value)
      try await closed
    }
  }

  @Test("cancelling a pipe aborts its sink and cancels its source", arguments: StreamPair.allCases)
  func cancelledPipe(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      let piping = Task { try await move(b, into: b) }
      try await a.write("x")
      #expect(try await read(1, from: a) == "x")
      piping.cancel()
      await #expect(throws: CancellationError.self) { try await piping.value }
      try await expectAbort(seenBy: a, pair)
    }
  }

  @Test("a bridge passes half-closes both ways", arguments: StreamPair.allCases)
  func bridge(_ pair: StreamPair) async throws {
    try await pair.run { a, b in
      let (near, far) = MemoryStream<Bytes>.pair()
      async let bridged: Void = connect(b, far)
      try await a.write("question")
      try await a.close()
      #expect(try await readAll(near) == "question")
      try await near.write("answer")
      try await near.close()
      #expect(try await readAll(a) == "answer")
      try await bridged
    }
  }
}

enum TestError: Error { case reason }

final class Counter: Sendable {
  private let count = Atomic<Int>(0)
  func add(_ number: Int) { count.wrappingAdd(number, ordering: .relaxed) }
  var value: Int { count.load(ordering: .relaxed) }
}

/// The peer of what was aborted reads an error; where the system has no reset, at least an end.
private func expectAbort(seenBy stream: ByteDuplex, _ pair: StreamPair) async throws {
  do {
    while try await stream.read() != nil {}
    #expect(!pair.hasReset)
  } catch {}
}

/// What comes, and whether the peer has said that it is not all.
private func readToFailure(_ stream: ByteDuplex) async throws -> (Bytes, Bool) {
  var all = BytesBuilder()
  do { while let chunk = try await stream.read() { all.append(chunk) } } catch { return (all.take(), true) }
  return (all.take(), false)
}

/// Pushes without a flush, all of it in one turn of the loop.
private func pushInOneTurn(_ elements: [Bytes], into sink: some PolledWritableStream<Bytes>) async throws {
  try await sink.loop.run { for element in elements { try sink.push(element) } }
}

/// A sink of lines.
private func lines(into sink: some PolledDuplexStream<Bytes, Bytes>) -> some PolledWritableStream<Bytes> {
  sink.behind(Lines())
}

private struct Lines: Transform {
  func transform(_ line: consuming Bytes, into output: inout TransformOutput<Bytes>) {
    output.append(line)
    output.append("\n")
  }
}

/// Counts how often it was woken.
private final class CountingWaker: SingleWaker, @unchecked Sendable {  // touched on one loop only
  private(set) var count = 0
  func wake() { count += 1 }
}

/// Until the writer has come to a halt: the same count twice.
private func untilStanding(_ written: Counter, on stream: ByteDuplex) async throws {
  var last = -1
  while written.value != last {
    last = written.value
    try await pause(on: stream)
  }
}

private func readUnrefused(_ stream: ByteDuplex) async throws -> Bytes? {
  while true {
    do { return try await stream.read() } catch StreamError.concurrentRead { await Task.yield() }
  }
}

private func untilRefused(_ stream: ByteDuplex) async throws {
  for _ in 0..<10_000 {
    let second = Task { try await stream.read() }
    for _ in 0..<5 { await Task.yield() }
    second.cancel()
    do { _ = try await second.value } catch StreamError.concurrentRead { return } catch is CancellationError {}
  }
  Issue.record("no second read was refused")
}

private func iterateOnce(_ stream: some DuplexStream<Bytes, Bytes>) async throws {
  for try await chunk in stream {
    #expect(chunk == "a")
    break
  }
}

private func move(_ source: some ReadableStream<Bytes>, into sink: some WritableStream<Bytes>) async throws {
  try await source.pipe(sink)
}

private func connect(_ a: some DuplexStream<Bytes, Bytes>, _ b: some DuplexStream<Bytes, Bytes>) async throws {
  try await bridge(a, b)
}

/// A while, in the time that the stream lives in.
private func pause(on stream: ByteDuplex) async throws {
  guard let polled = stream as? any PolledReadableStream<Bytes>, let loop = polled.loop as? SimulatedLoop else {
    return try await Task.sleep(for: .milliseconds(50))
  }
  await withCheckedContinuation { continuation in
    _ = loop.schedule(after: .seconds(10)) { continuation.resume() }
  }
}

extension ReadableStream {
  fileprivate func pipe(opening sink: any WritableStream<Output>, _ options: PipeOptions) async throws {
    try await pipeInto(sink, options)
  }

  private func pipeInto<Sink: WritableStream<Output>>(_ sink: Sink, _ options: PipeOptions) async throws {
    try await pipe(sink, options: options)
  }
}

/// What comes from a stream that lends some of it. Used on its loop only, and behind that.
private final class LendingRecord: @unchecked Sendable {
  enum Kind { case all, some, none }
  private(set) var received: [UInt8] = []
  private(set) var kinds: Set<Kind> = []
  private var lendings = 0

  /// - Returns: whether the stream has ended.
  func poll(_ source: any PolledDuplexStream<Bytes, Bytes>) throws -> Bool {
    var lent = 0
    var used = 0
    let polled = try source.poll(lendingTo: { bytes in
      lent = bytes.count
      used = [bytes.count / 2, 0, bytes.count][lendings % 3]
      lendings += 1
      for index in 0..<used { received.append(bytes[index]) }
      return used
    })
    switch polled {
    case .used(let isDry):
      #expect(used == lent && lent > 0)
      if isDry, case .element = try source.poll() { Issue.record("a dry stream gave something") }
      kinds.insert(.all)
    case .element(let bytes):
      #expect(lent == 0 || bytes.count == lent - used)
      if lent > 0 { kinds.insert(used > 0 ? .some : .none) }
      received += bytes
    case .pending: #expect(lent == 0)
    case .end: return true
    }
    return false
  }
}
