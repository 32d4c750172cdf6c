import SluiceTestSupport
import Synchronization
import Testing

@testable import SluiceStreams

/// One chunk may be many elements: they are made as they are wanted.
@Suite("Elements on demand", .timeLimit(.minutes(1)))
struct OnDemandTests {
  private static let size = 256 << 10

  enum Cutter: CaseIterable {
    case lines, nullTerminated, chunks, lengthPrefixed

    /// A chunk of the smallest elements.
    var chunk: Bytes {
      switch self {
      case .lines: Bytes([UInt8](repeating: 0x0A, count: size))
      case .nullTerminated: Bytes([UInt8](repeating: 0, count: size))
      case .chunks: Bytes([UInt8](repeating: 7, count: size))
      case .lengthPrefixed: Bytes([UInt8](repeating: 0, count: size))
      }
    }

    var count: Int { self == .lengthPrefixed ? size / 4 : size }
  }

  /// Takes what a transform makes of chunks, one call at a time.
  private func run<T: Transform>(_ transform: T, _ chunks: [T.Input]) throws -> (counts: [Int], all: [T.Output]) {
    var transform = transform
    var output = TransformOutput<T.Output>()
    var counts: [Int] = []
    var all: [T.Output] = []
    func takeAll() {
      counts.append(output.elements.count)
      while let element = output.popFirst() { all.append(element) }
    }
    for chunk in chunks {
      try transform.transform(chunk, into: &output)
      takeAll()
      while output.isPaused {
        output.unpause()
        try transform.resume(into: &output)
        takeAll()
      }
    }
    try transform.finish(into: &output)
    takeAll()
    return (counts, all)
  }

  @Test("a chunk of the smallest elements gives some at a time, and all in the end", arguments: Cutter.allCases)
  func some(_ cutter: Cutter) throws {
    let (counts, count) =
      switch cutter {
      case .lines: { ($0.counts, $0.all.count) }(try run(LineDecoder(), [cutter.chunk]))
      case .nullTerminated: { ($0.counts, $0.all.count) }(try run(DelimiterDecoder(0), [cutter.chunk]))
      case .chunks: { ($0.counts, $0.all.count) }(try run(ChunkTransform(size: 1), [cutter.chunk]))
      case .lengthPrefixed: { ($0.counts, $0.all.count) }(try run(LengthPrefixDecoder(), [cutter.chunk]))
      }
    #expect(count == cutter.count)
    #expect(counts.allSatisfy { $0 <= 64 })
  }

  @Test("cut anywhere, and taken at any pace, the lines are the same")
  func pieces() throws {
    let text = (0..<1000).map { "\($0)" }.joined(separator: "\r\n")
    let bytes = Bytes(text)
    for size in [1, 7, 100, 1000, .max] {
      var chunks: [Bytes] = []
      var rest = bytes
      while !rest.isEmpty {
        chunks.append(rest.prefix(size))
        rest = rest.dropFirst(size)
      }
      #expect(try run(LineDecoder(), chunks).all == (0..<1000).map { "\($0)" })
    }
  }

  @Test("a transform that nobody asks for more gives all with the next element, or at the end")
  func unaware() throws {
    var decoder = DelimiterDecoder(0x0A)
    var output = TransformOutput<Bytes>()
    let hundred = Bytes([UInt8](repeating: 0x0A, count: 100))
    try decoder.transform(hundred, into: &output)
    #expect(output.elements.count == 64 && output.isPaused)
    try decoder.transform(hundred, into: &output)
    try decoder.finish(into: &output)
    #expect(output.elements.count == 200)
  }

  @Test("a stream gives them all, in both gears, through several stages and before a failure")
  func streams() async throws {
    let chunk = Bytes([UInt8](repeating: 0x0A, count: 10_000))
    #expect(try await SequenceStream([chunk, chunk]).lines.map { $0.count }.collect(limit: 100_000).count == 20_000)
    let failing = Mutex(0)
    let source = Readable<Bytes> {
      let count = failing.withLock { count in
        count += 1
        return count
      }
      if count > 1 { throw TestError.reason }
      return chunk
    }
    let lines = source.lines
    var count = 0
    await #expect(throws: TestError.reason) { while try await lines.read() != nil { count += 1 } }
    #expect(count == 10_000)
  }

  @Test("a sink behind a transform gets no more than it has room for")
  func sink() async throws {
    let loop = SimulatedLoop()
    let network = SimulatedNetwork(loop: loop)
    try await loop.simulate {
      let (near, far) = network.connection()
      near.stall(true)
      // Each byte becomes ten.
      let sink = near.behind(
        LineDecoderToBytes())
      let chunk = Bytes([UInt8](repeating: 0x0A, count: 100_000))
      try await loop.run {
        #expect(try sink.hasRoom())
        try sink.push(chunk)
        sink.flush()
        #expect(try !sink.hasRoom())
        #expect(near.queuedByteCount <= 2 * near.highWatermark)
      }
      let closing = Task(executorPreference: loop) {
        while try await !loop.run({ try sink.hasRoom() }) {
          try await loop.run { sink.flush() }
          try await loop.sleep(for: .milliseconds(1))
        }
        try await sink.close()
      }
      near.stall(false)
      var count = 0
      while let bytes = try await far.read() { count += bytes.count }
      #expect(count == 1_000_000)
      try await closing.value
    }
  }

  /// Ten bytes for each line.
  private struct LineDecoderToBytes: Transform {
    private var decoder = DelimiterDecoder(0x0A)
    mutating func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) throws {
      let input = input
      try give(&output) { try $0.transform(input, into: &$1) }
    }
    mutating func resume(into output: inout TransformOutput<Bytes>) throws {
      try give(&output) { try $0.resume(into: &$1) }
    }
    private mutating func give(
      _ output: inout TransformOutput<Bytes>,
      _ cut: (inout DelimiterDecoder, inout TransformOutput<Bytes>) throws -> Void
    ) throws {
      var lines = TransformOutput<Bytes>()
      try cut(&decoder, &lines)
      while lines.popFirst() != nil { output.append("0123456789") }
      if lines.isPaused { output.pause() }
    }
  }
}
