import SluiceIO
import SluiceStreams
import SluiceTestSupport
import Synchronization
import Testing

/// A write that throws `CancellationError` has not taken its element, and one that returns has: on every writable there is.
@Suite("Writes that are cancelled", .timeLimit(.minutes(2)))
struct CancelledWriteTests {
  enum Kind: CaseIterable {
    case memory, transformed, joined, any, simpleOnLoop, tcp, unix, reconnecting, reconnectingWithoutConnection
  }

  /// A sink with room for little, and what reads everything that it was given.
  private typealias Pair = (sink: any WritableStream<Bytes>, source: any ReadableStream<Bytes>)

  private func open(_ kind: Kind) async throws -> Pair {
    let (near, far) = MemoryStream<Bytes>.pair(highWatermark: 4)
    switch kind {
    case .memory: return (near, far)
    case .transformed: return (near.behind(ElementTransform<Bytes, Bytes> { $1.append($0) }), far)
    case .joined: return (JoinedStream(reading: near, writing: near), far)
    case .any: return (AnyWritable(near), far)
    case .simpleOnLoop: return (LoopStream(near, on: UVLoop.shared, highWatermark: 100), far)
    case .tcp:
      let listener = try await TCP.listen("127.0.0.1", port: 0)
      defer { listener.cancel() }
      async let accepted = listener.read()
      let near = try await TCP.connect("127.0.0.1", port: listener.port)
      return (near, try #require(try await accepted))
    case .unix:
      let path = "/tmp/sluice-cancelled-\(UInt64.random(in: 0 ..< .max))"
      let listener = try await UnixSocket.listen(path)
      defer { listener.cancel() }
      async let accepted = listener.read()
      let near = try await UnixSocket.connect(path)
      return (near, try #require(try await accepted))
    case .reconnecting, .reconnectingWithoutConnection:
      let listener = try await TCP.listen("127.0.0.1", port: 0)
      let near = try await TCP.connect("127.0.0.1", port: listener.port)
      let far = try #require(try await listener.read())
      listener.cancel()
      let isOpen = kind == .reconnecting
      let connections = Readable<any PolledDuplexStream<Bytes, Bytes>> {
        if !isOpen { try await Task.sleep(for: .milliseconds(300)) }
        return near
      }
      return (ReconnectingStream(over: connections, resumingAt: .byte, on: UVLoop.shared), far)
    }
  }

  @Test("what was taken arrives once, and what was not does not", arguments: Kind.allCases)
  func cancelled(_ kind: Kind) async throws {
    let (sink, source) = try await open(kind)
    let size = kind == .tcp || kind == .unix || kind == .reconnecting ? 40_000 : 40
    var taken: [Int] = []
    var refused = 0
    var number = 0
    // Cancelled before it begins, meanwhile, and where there is room.
    while refused < 30 && number < 2000 {
      let element = Self.element(number, size)
      let writing = Task { try await Self.write(element, to: sink) }
      if number % 3 == 0 { try await Task.sleep(for: .milliseconds(2)) }
      writing.cancel()
      do {
        try await writing.value
        taken.append(number)
      } catch is CancellationError {
        refused += 1
      }
      number += 1
    }
    #expect(refused == 30)
    let expected = taken
    async let arrived = Self.numbers(source, size, count: expected.count)
    // What was taken leaves, and the end behind it.
    if kind == .reconnectingWithoutConnection { try await Task.sleep(for: .milliseconds(400)) }
    try await sink.close()
    #expect(try await arrived == expected)
    sink.abort(StreamError.aborted)
    source.cancel(nil)
  }

  private static func element(_ number: Int, _ size: Int) -> Bytes {
    var builder = BytesBuilder(capacity: size)
    builder.append(bigEndian: UInt32(truncatingIfNeeded: number))
    while builder.count < size { builder.append(0) }
    return builder.take()
  }

  private static func write(_ element: Bytes, to sink: some WritableStream<Bytes>) async throws {
    try await sink.write(element)
  }

  /// What arrives to the end, in elements of one size.
  private static func numbers(_ source: some ReadableStream<Bytes>, _ size: Int, count: Int) async throws -> [Int] {
    var numbers: [Int] = []
    for try await chunk in source.chunks(of: size) {
      numbers.append(chunk.prefix(4).reduce(0) { $0 << 8 | Int($1) })
    }
    return numbers
  }
}
