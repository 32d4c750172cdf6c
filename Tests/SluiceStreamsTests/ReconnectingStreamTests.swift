import SluiceTestSupport
import Synchronization
import Testing

@testable import SluiceStreams

@Suite("A stream over one connection after another", .timeLimit(.minutes(1)))
struct ReconnectingStreamTests {
  /// The other ends, as they are made, and the near ones.
  private final class Far: Sendable {
    private let pairs = Mutex<[(near: SimulatedStream, far: SimulatedStream)]>([])

    func add(_ near: SimulatedStream, _ far: SimulatedStream) { pairs.withLock { $0.append((near, far)) } }
    var count: Int { pairs.withLock { $0.count } }
    subscript(index: Int) -> SimulatedStream { pairs.withLock { $0[index].far } }
    func near(_ index: Int) -> SimulatedStream { pairs.withLock { $0[index].near } }
  }

  /// Runs `body` with a stream whose connections each take a second to make, as many as there are.
  private func run(
    _ resumePoint: ResumePoint<Bytes> = .byte, connections: Int = .max, window: Int = 64 << 10,
    _ body: @escaping @Sendable (ReconnectingStream<Bytes, Bytes>, Far, SimulatedLoop) async throws -> Void
  ) async throws {
    let loop = SimulatedLoop()
    var network = SimulatedNetwork(loop: loop)
    network.window = window
    let final = network
    let far = Far()
    let source = Readable<any PolledDuplexStream<Bytes, Bytes>> {
      try await loop.sleep(for: .seconds(1))
      if far.count >= connections { return nil }
      let (near, other) = final.connection()
      far.add(near, other)
      return near
    }
    try await loop.simulate {
      try await body(ReconnectingStream(over: source, resumingAt: resumePoint, on: loop), far, loop)
    }
  }

  private static func read(_ stream: SimulatedStream, count: Int) async throws -> String {
    var text = ""
    while text.utf8.count < count, let chunk = try await stream.read() { text += chunk.string }
    return text
  }

  @Test("what one connection gives is read to its end, and then what the next gives")
  func reading() async throws {
    try await run { stream, far, loop in
      async let first = stream.read()
      while far.count == 0 { try await loop.sleep(for: .milliseconds(10)) }
      try await far[0].write("one")
      try await far[0].write("two")
      try await far[0].close()
      #expect(try await first == "one")
      #expect(try await stream.read() == "two")
      async let next = stream.read()
      while far.count == 1 { try await loop.sleep(for: .milliseconds(10)) }
      try await far[1].write("three")
      #expect(try await next == "three")
    }
  }

  @Test("a connection whose peer has ended its half is ended from here too")
  func endsHalfClosed() async throws {
    try await run { stream, far, loop in
      async let next = stream.read()
      while far.count == 0 { try await loop.sleep(for: .milliseconds(10)) }
      try await stream.write("said")
      #expect(try await Self.read(far[0], count: 4) == "said")
      try await far[0].close()
      #expect(try await far[0].read() == nil)
      while far.count == 1 { try await loop.sleep(for: .milliseconds(10)) }
      try await far[1].write("next")
      #expect(try await next == "next")
    }
  }

  @Test("what waits when a connection is reset goes to the next, and what the system had taken does not")
  func resends() async throws {
    try await run(window: 10) { stream, far, loop in
      try await stream.open()
      try await stream.write("0123456789abcdef")
      let reading = Task(executorPreference: loop) { try await stream.read() }
      try await loop.sleep(for: .milliseconds(10))
      // Ten bytes are under way, the rest waits.
      far.near(0).stall(true)
      #expect(try await Self.read(far[0], count: 10) == "0123456789")
      try await stream.write("ghi")
      far[0].abort(StreamError.aborted)
      while far.count == 1 { try await loop.sleep(for: .milliseconds(10)) }
      #expect(try await Self.read(far[1], count: 9) == "abcdefghi")
      reading.cancel()
    }
  }

  @Test(
    "a byte stream goes on at the byte, or with the line that was cut, however it was cut",
    arguments: [1, 2, 3, 5, 7, 11, 16, 64], [false, true])
  func everyCut(window: Int, byLine: Bool) async throws {
    let lines = (0..<400).map { "line \($0)\n" }
    try await run(byLine ? .behind(UInt8(ascii: "\n")) : .byte, window: window) { stream, far, loop in
      try await stream.open()
      let reading = Task(executorPreference: loop) { while try await stream.read() != nil {} }
      let writing = Task(executorPreference: loop) {
        for line in lines { try await stream.write(Bytes(line)) }
        try await stream.close()
      }
      var received: [String] = [""]
      var index = 0
      while let chunk = try await far[index].read() {
        received[index] += chunk.string
        guard index < 12, received[index].utf8.count > 10 + index else { continue }
        // The system takes no more, and all that it has taken arrives.
        far.near(index).stall(true)
        try await loop.sleep(for: .milliseconds(1))
        while case .element(let chunk) = try far[index].poll() { received[index] += chunk.string }
        try await far[index].close()
        while far.count == index + 1 { try await loop.sleep(for: .milliseconds(100)) }
        index += 1
        received.append("")
      }
      try await writing.value
      try await far[index].close()
      try await reading.value
      if byLine {
        // Without the last part of a connection that is no whole line, it is all of it.
        let whole = received.enumerated().map { number, text in
          number == index
            ? text : String(text[..<(text.lastIndex(of: "\n").map { text.index(after: $0) } ?? text.startIndex)])
        }
        #expect(whole.joined() == lines.joined())
      } else {
        #expect(received.joined() == lines.joined())
      }
    }
  }

  @Test("without a connection one element is accepted, and the next write waits for one")
  func waits() async throws {
    try await run { stream, far, loop in
      let written = Mutex(0)
      let writing = Task(executorPreference: loop) {
        for text in ["a", "b", "c"] {
          try await stream.write(Bytes(text))
          written.withLock { $0 += 1 }
        }
      }
      try await loop.sleep(for: .milliseconds(900))
      #expect(written.withLock { $0 } == 0 && far.count == 0)
      try await writing.value
      #expect(loop.now >= .seconds(1) && loop.now < .seconds(2))
      #expect(try await Self.read(far[0], count: 3) == "abc")
    }
  }

  @Test("writing goes on when the next connection takes more at once than a watermark")
  func resumesWriting() async throws {
    try await run(window: 1 << 20) { stream, far, loop in
      try await stream.open()
      let reading = Task(executorPreference: loop) { try await stream.read() }
      let large = Bytes(repeatElement(65, count: 40 << 10))
      far.near(0).stall(true)
      let writing = Task(executorPreference: loop) {
        for _ in 0..<10 { try await stream.write(large) }
        try await stream.close()
      }
      try await loop.sleep(for: .milliseconds(10))
      far[0].abort(StreamError.aborted)
      while far.count == 1 { try await loop.sleep(for: .milliseconds(10)) }
      #expect(try await Self.read(far[1], count: .max).utf8.count == 10 * large.count)
      try await writing.value
      try await far[1].close()
      #expect(try await reading.value == nil)
    }
  }

  @Test("closing sends what is left over another connection, and makes none if nothing is")
  func closing() async throws {
    try await run { stream, far, loop in
      try await stream.write("a")
      #expect(try await Self.read(far[0], count: 1) == "a")
      let reading = Task(executorPreference: loop) { try await stream.read() }
      try await far[0].close()
      try await loop.sleep(for: .milliseconds(10))
      // It is connecting now.
      try await stream.close()
      #expect(try await reading.value == nil)
      #expect(far.count == 1)
      await #expect(throws: StreamError.closed) { try await stream.write("late") }
      try await stream.close()
    }
    try await run { stream, far, loop in
      try await stream.write("a")
      let reading = Task(executorPreference: loop) { try await stream.read() }
      try await far[0].close()
      try await loop.sleep(for: .milliseconds(10))
      let writing = Task(executorPreference: loop) { try await stream.write("left") }
      try await loop.sleep(for: .milliseconds(10))
      try await stream.close()
      try await writing.value
      #expect(try await Self.read(far[1], count: 4) == "left")
      #expect(try await far[1].read() == nil)
      try await far[1].close()
      #expect(try await reading.value == nil)
      #expect(far.count == 2)
    }
  }

  @Test("it ends with its connections, well or with their error")
  func ending() async throws {
    try await run(connections: 1) { stream, far, loop in
      try await stream.open()
      try await far[0].close()
      #expect(try await stream.read() == nil)
      await #expect(throws: StreamError.closed) { try await stream.write("late") }
    }
    struct Final: Error {}
    let loop = SimulatedLoop()
    let failing = Readable<any PolledDuplexStream<Bytes, Bytes>> { throw Final() }
    try await loop.simulate {
      let stream = ReconnectingStream(over: failing, resumingAt: .byte, on: loop)
      await #expect(throws: Final.self) { try await stream.open() }
      await #expect(throws: Final.self) { try await stream.read() }
      await #expect(throws: Final.self) { try await stream.write("a") }
      await #expect(throws: Final.self) { try await stream.close() }
    }
  }

  @Test("an abort ends it at once, a cancelled read leaves it as it was")
  func abort() async throws {
    try await run { stream, far, loop in
      let reading = Task(executorPreference: loop) { try await stream.read() }
      try await loop.sleep(for: .milliseconds(500))
      reading.cancel()
      await #expect(throws: CancellationError.self) { try await reading.value }
      try await stream.write("a")
      #expect(far.count == 1)
      stream.abort(StreamError.aborted)
      await #expect(throws: StreamError.aborted) { try await stream.read() }
      await #expect(throws: StreamError.aborted) { try await stream.write("b") }
      await #expect(throws: ConnectionReset.self) { while try await far[0].read() != nil {} }
    }
  }
}

@Suite("What may have to be sent again")
struct UnsentElementsTests {
  private func taken(_ unsent: inout UnsentElements<Bytes>, _ sent: Int) -> [Bytes] {
    unsent.takeBack(sent: sent)
    var all: [Bytes] = []
    while let element = unsent.popQueued() { all.append(element) }
    return all
  }

  private func pushed(_ resumePoint: ResumePoint<Bytes>, _ elements: [Bytes], overhead: Int = 0) -> UnsentElements<
    Bytes
  > {
    var unsent = UnsentElements<Bytes>(resumingAt: resumePoint)
    var place = 100
    for element in elements {
      unsent.append(element)
      while let piece = unsent.popQueued() {
        unsent.didPush(piece, from: place, to: place + piece.count + overhead)
        place += piece.count + overhead
      }
    }
    return unsent
  }

  @Test(
    "a whole element is sent again unless all of it has left",
    arguments: [(100, 2), (101, 2), (102, 2), (103, 1), (105, 1), (106, 0), (.max, 0)])
  func elements(sent: Int, count: Int) {
    var unsent = pushed(.element, ["abc", "def"])
    #expect(unsent.isOwed(sent: sent) == (count > 0))
    #expect(taken(&unsent, sent).count == count)
  }

  @Test("bytes go on where they were cut, in TLS with the record that was cut")
  func bytes() {
    var plain = pushed(.byte, ["abc", "def"])
    #expect(taken(&plain, 104) == ["ef"])
    var encrypted = pushed(.byte, ["abc", "def"], overhead: 22)
    #expect(taken(&encrypted, 126) == ["def"])
    var long = pushed(.byte, [Bytes(repeatElement(7, count: 40_000))], overhead: 22)
    #expect(taken(&long, 100 + 16384 + 22 + 5).map(\.count) == [16384, 40_000 - 2 * 16384])
  }

  @Test("lines go on with the one that was cut, wherever it began; a beginning alone is not owed")
  func lines() {
    var unsent = pushed(.behind(10), ["one\ntw", "o", "o\nthree"])
    #expect(taken(&unsent, 108) == ["tw", "o", "o\nthree"])
    unsent = pushed(.behind(10), ["one\ntw", "o", "o\nthree"])
    unsent.trim(sent: 107)
    unsent.trim(sent: 109)
    #expect(taken(&unsent, 111) == ["three"])
    unsent = pushed(.behind(10), ["one\ntw"])
    unsent.takeBack(sent: 106)
    #expect(!unsent.isOwed)
    unsent.append("o\n")
    #expect(unsent.isOwed && taken(&unsent, .max) == ["tw", "o\n"])
    unsent = pushed(.behind(10), ["one\n"])
    #expect(taken(&unsent, 104) == [])
  }

  @Test("a line without an end is not kept for ever")
  func endless() {
    var unsent = pushed(.behind(10), Array(repeating: Bytes(repeatElement(65, count: 1000)), count: 1000))
    unsent.trim(sent: 100 + 999_500)
    #expect(taken(&unsent, 100 + 999_500).count == 1)
  }
}
