import SluiceStreams
import Testing

@Suite("The marks of a queue")
struct WatermarkTests {
  @Test("whoever found no room is told once, at half the mark")
  func hysteresis() {
    var mark = Watermark(high: 100)
    let told = [
      mark.hasRoom(queued: 99), mark.isReached(queued: 0), mark.hasRoom(queued: 100), mark.isReached(queued: 51),
      mark.isReached(queued: 50), mark.isReached(queued: 0),
    ]
    #expect(told == [true, false, false, false, true, false])
  }

  @Test("a mark of nothing or less leaves room for one element at a time", arguments: [0, -1, .min])
  func degenerate(high: Int) {
    var mark = Watermark(high: high)
    let told = [mark.hasRoom(queued: 0), mark.hasRoom(queued: 1), mark.isReached(queued: 0)]
    #expect(told == [true, false, true])
  }
}

@Suite("Bytes that wait to be written")
struct ByteQueueTests {
  private func contents(of queue: inout ByteQueue) -> [UInt8] { queue.front(limit: .max).flatMap { Array($0) } }

  @Test("what is queued keeps its order, settled or not")
  func order() {
    var queue = ByteQueue()
    var expected: [UInt8] = []
    for number in 0..<300 {
      let chunk = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: number * 37 % 9000)
      if number % 3 == 0 { queue.append(Bytes(chunk)) } else { queue.appendSettled(Bytes(chunk)) }
      if number % 50 == 0 { queue.settle() }
      expected += chunk
    }
    let count = queue.count
    #expect(count == expected.count)
    #expect(contents(of: &queue) == expected)
    queue.dropFirst(12_345)
    #expect(contents(of: &queue) == Array(expected.dropFirst(12_345)))
    queue.dropFirst(queue.count)
    let isEmpty = queue.isEmpty
    #expect(isEmpty)
    #expect(contents(of: &queue) == [])
  }

  @Test("a few bytes of a large buffer that stay do not keep it alive; many of them become one chunk")
  func settled() {
    var queue = ByteQueue()
    weak var buffer: ByteStorage?
    do {
      let storage = ByteStorage(capacity: 256 << 10)
      unsafe storage.pointer.update(repeating: 7, count: 1000)
      buffer = storage
      for index in 0..<1000 { queue.append(Bytes(storage: storage, start: index, end: index + 1)) }
    }
    #expect(buffer != nil)
    queue.settle()
    #expect(buffer == nil)
    let chunks = queue.front(limit: .max)
    #expect(chunks.count == 1)
    #expect(contents(of: &queue) == [UInt8](repeating: 7, count: 1000))
  }

  @Test("a large chunk stays as it is")
  func uncopied() {
    var queue = ByteQueue()
    let large = Bytes([UInt8](repeating: 1, count: 100_000))
    queue.append(large)
    queue.settle()
    let first = queue.front(limit: 1).first
    #expect(first.map { large.isIdentical(to: $0) } == true)
  }
}
