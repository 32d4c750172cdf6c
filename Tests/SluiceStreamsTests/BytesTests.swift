import SluiceStreams
import Testing

@Suite struct BytesTests {
  @Test func slicesShareTheirBuffer() {
    let bytes: Bytes = "GET / HTTP/1.1\r\n"
    let method = bytes.prefix(3)
    #expect(method.string == "GET")
    #expect(bytes.dropFirst(4).first == UInt8(ascii: "/"))
    let same =
      unsafe bytes.withUnsafeBytes { unsafe $0.baseAddress } == method.withUnsafeBytes { unsafe $0.baseAddress }
    #expect(same)
  }

  @Test func aSliceOfAMuchLargerBufferIsCopiedWhenCompacted() {
    let large = Bytes([UInt8](repeating: 7, count: 4096))
    let small = large[100..<110]
    let compacted = small.compacted()
    #expect(compacted == small)
    let same =
      unsafe small.withUnsafeBytes { unsafe $0.baseAddress } == compacted.withUnsafeBytes { unsafe $0.baseAddress }
    #expect(!same)
  }

  @Test func aBuilderGivesItsBytesAwayAndStartsAfresh() {
    var builder = BytesBuilder()
    builder.append("one")
    builder.append(bigEndian: UInt16(0x0102))
    let first = builder.take()
    builder.append("two")
    #expect(first == [0x6f, 0x6e, 0x65, 1, 2])
    #expect(builder.take() == "two")
  }

  @Test func equalityLooksAtTheBytesNotTheBuffer() {
    let bytes: Bytes = "abcabc"
    #expect(bytes.prefix(3) == bytes.suffix(3))
    #expect(bytes.prefix(3).hashValue == bytes.suffix(3).hashValue)
    #expect(bytes.prefix(3) != bytes.prefix(2))
  }
}

@Suite("Queues of bytes")
struct ByteQueueTests {
  @Test("what stays queued holds no larger buffer, and small chunks become few")
  func settled() {
    let large = Bytes([UInt8](repeating: 0x41, count: 256 << 10))
    var queue = ByteQueue()
    for offset in 0..<100_000 { queue.appendSettled(large.dropFirst(offset).prefix(1)) }
    queue.appendSettled(large.prefix(10_000))
    #expect(queue.count == 110_000)
    let chunks = Array(queue.front(limit: .max))
    #expect(chunks.count < 10)
    #expect(chunks.allSatisfy { !$0.isIdentical(to: large) && !$0.isWasteful })
    queue.dropFirst(109_999)
    #expect(Array(queue.front(limit: .max)) == ["A"])
  }
}
