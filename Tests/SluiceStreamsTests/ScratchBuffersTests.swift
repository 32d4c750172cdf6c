import SluiceStreams
import Testing

@Suite("Memory that the streams of a loop gather in")
struct ScratchBuffersTests {
  @Test("what thousands gather in one turn is small for each, grows where it must, and is full size again afterwards")
  func manyAtOnce() {
    let buffers = ScratchBuffers(size: 64 << 10, keep: 16)
    for _ in 0..<3 {
      gather(10_000, in: buffers)
      var builder = buffers.take()
      #expect(builder.capacity == 64 << 10)
      builder.append("one after the other")
      buffers.give(builder)
    }
  }

  /// So many streams gather before the first of them sends.
  private func gather(_ count: Int, in buffers: ScratchBuffers) {
    var all = BuilderQueue()
    var held = 0
    for index in 0..<count {
      var builder = buffers.take()
      builder.append("what a member is sent")
      if index == count - 1 { for _ in 0..<1_000 { builder.append("and more of it") } }
      held += builder.capacity
      all.append(builder)
    }
    #expect(held <= 16 * 64 << 10 + count * 2 << 10 + 64 << 10)
    while let builder = all.popFirst() { buffers.give(builder) }
  }

  /// Builders can't be copied, and so not stand in an array.
  private struct BuilderQueue: ~Copyable {
    private final class Node {
      var builder: BytesBuilder
      var next: Node?
      init(_ builder: consuming BytesBuilder) { self.builder = builder }
    }
    private var first: Node?
    private var last: Node?

    mutating func append(_ builder: consuming BytesBuilder) {
      let node = Node(builder)
      if let last { last.next = node } else { first = node }
      last = node
    }

    mutating func popFirst() -> BytesBuilder? {
      guard let node = first else { return nil }
      first = node.next
      if first == nil { last = nil }
      return node.builder.move()
    }
  }
}
