import SluiceStreams
import Testing

@Suite struct BytesTests {
  @Test func slicesShareTheirBuffer() {
    let bytes: Bytes = "GET / HTTP/1.1\r\n"
    let method = bytes.prefix(3)
    #expect(method.string == "GET")
    #expect(bytes.dropFirst(4).first == UInt8(ascii: "/"))
    let same =
      unsafe bytes.withUnsafeBytes { $0.baseAddress } == method.withUnsafeBytes { $0.baseAddress }
    #expect(same)
  }

  @Test func aSliceOfAMuchLargerBufferIsCopiedWhenCompacted() {
    let large = Bytes([UInt8](repeating: 7, count: 4096))
    let small = large[100..<110]
    let compacted = small.compacted()
    #expect(compacted == small)
    let same =
      unsafe small.withUnsafeBytes { $0.baseAddress } == compacted.withUnsafeBytes { $0.baseAddress }
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

  @Test func memoryOfSomethingElseIsHeldByTheLastSliceOfIt() {
    @safe final class Owner {
      let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1000, alignment: 1)
      let wasFreed: Flag
      init(_ wasFreed: Flag) {
        self.wasFreed = wasFreed
        for index in unsafe memory.indices { unsafe memory[index] = UInt8(truncatingIfNeeded: index) }
      }
      deinit {
        unsafe memory.deallocate()
        wasFreed.isSet = true
      }
    }
    final class Flag { var isSet = false }
    let wasFreed = Flag()
    var slice: Bytes?
    do {
      let owner = Owner(wasFreed)
      let bytes = unsafe Bytes(UnsafeRawBufferPointer(rebasing: owner.memory[100..<200]), of: owner, size: 1000)
      let same =
        unsafe bytes.withUnsafeBytes { $0.baseAddress } == UnsafeRawPointer(owner.memory.baseAddress! + 100)
      #expect(same && bytes.count == 100)
      slice = bytes[50..<60]
    }
    #expect(!wasFreed.isSet && slice == Bytes(150..<160))
    // Of its own: ten bytes don't keep a thousand.
    let compacted = slice?.compacted()
    slice = nil
    #expect(wasFreed.isSet && compacted == Bytes(150..<160))
  }

  @Test func aSmallBufferIsUsedAgainOnceNobodyHoldsWhatWasInIt() {
    var buffer = SmallBuffer()
    func write(_ byte: UInt8) -> Bytes {
      var builder = buffer.take()
      for _ in 0..<SmallBuffer.capacity { builder.append(byte) }
      return builder.take()
    }
    func place(_ bytes: Bytes) -> UnsafeRawPointer? { unsafe bytes.withUnsafeBytes { $0.baseAddress } }
    let kept = write(1)
    var second: Bytes? = write(2)
    let reused = unsafe second.flatMap { unsafe place($0) }
    #expect(kept == Bytes([UInt8](repeating: 1, count: SmallBuffer.capacity)))
    #expect(!kept.isWasteful && !kept.prefix(1).isWasteful)
    second = nil
    let third = write(3)
    #expect(unsafe place(third) == reused)
    #expect(kept == Bytes([UInt8](repeating: 1, count: SmallBuffer.capacity)))
  }

  @Test func noMemoryIsHeldForNoBytes() {
    let empty = unsafe Bytes(UnsafeRawBufferPointer(start: nil, count: 0), of: BytesTests.self as AnyObject)
    #expect(empty.isEmpty && empty == Bytes())
  }
}
