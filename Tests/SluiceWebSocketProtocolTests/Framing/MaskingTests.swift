import SluiceStreams
import Testing

@testable import SluiceWebSocketProtocol

@Suite("Masking (RFC 6455 §5.3)")
struct MaskingTests {
  static let key = MaskingKey(0x37, 0xFA, 0x21, 0x3D)

  /// Byte `i` of the payload with byte `i % 4` of the key.
  static func reference(_ payload: [UInt8], _ key: MaskingKey) -> [UInt8] {
    let bytes = [key.bytes.0, key.bytes.1, key.bytes.2, key.bytes.3]
    return payload.enumerated().map { $1 ^ bytes[$0 % 4] }
  }

  @Test("the example of §5.7")
  func example() {
    var builder = BytesBuilder()
    builder.append(Bytes("Hello").span, masking: Self.key)
    #expect(bytes(builder) == hex("7f 9f 4d 51 58"))
  }

  @Test("a copy of any length and alignment is right, and its source stays as it was")
  func copies() {
    let source = (0..<400).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ 7) }
    for start in Self.alignments {
      for count in 0...300 {
        let payload = Bytes(source)[start..<start + count]
        var builder = BytesBuilder(capacity: 512)
        let before = [UInt8](repeating: 0xAA, count: (start + count) % 37)
        builder.append(contentsOf: before)
        builder.append(payload.span, masking: Self.key)
        let expected = Self.reference(Array(payload), Self.key)
        if bytes(builder) != before + expected { Issue.record("wrong at \(start), \(count)") }
        if Array(payload) != Array(source[start..<start + count]) { Issue.record("the source changed") }
      }
    }
  }

  @Test("in place, any length and alignment is right, and what lies beside it stays as it was")
  func inPlace() {
    let source = (0..<400).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ 7) }
    for start in Self.alignments {
      for count in 0...300 {
        var array = source
        unsafe array.withUnsafeMutableBufferPointer { buffer in
          var part = unsafe UnsafeMutableBufferPointer(rebasing: buffer[start..<start + count]).mutableSpan
          Self.key.apply(to: &part)
        }
        let expected =
          source[..<start] + Self.reference(Array(source[start..<start + count]), Self.key) + source[(start + count)...]
        if array != Array(expected) { Issue.record("wrong at \(start), \(count)") }
      }
    }
  }

  private static let alignments = [0, 1, 2, 3, 8, 13, 31, 32, 33]

  @Test("the loop for every processor gives what the one for this does")
  func everyProcessor() {
    let source = (0..<400).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ 7) }
    for count in 64...300 {
      var array = [UInt8](repeating: 0xAA, count: 400)
      unsafe source.withUnsafeBufferPointer { from in
        unsafe array.withUnsafeMutableBufferPointer { to in
          guard let source = from.baseAddress, let target = to.baseAddress else { return }
          unsafe MaskingKernel.longForAll(into: target + 3, from: source + 5, count: count, key: Self.key.word)
        }
      }
      let expected = [0xAA, 0xAA, 0xAA] + Self.reference(Array(source[5..<5 + count]), Self.key)
      if Array(array[..<(count + 4)]) != expected + [0xAA] { Issue.record("wrong at \(count)") }
    }
  }

  @Test("a key goes on where it stopped", arguments: 0..<40)
  func rotation(split: Int) {
    let payload = (0..<40).map { UInt8($0) }
    var builder = BytesBuilder()
    builder.append(payload.span.extracting(0..<split), masking: Self.key)
    builder.append(payload.span.extracting(split..<40), masking: Self.key.rotated(by: split))
    #expect(bytes(builder) == Self.reference(payload, Self.key))
    #expect(Self.key.rotated(by: 4) == Self.key)
    #expect(Self.key.rotated(by: split).rotated(by: 3) == Self.key.rotated(by: split + 3))
  }

  @Test("masking twice gives the payload back")
  func involution() {
    var array: [UInt8] = Array(repeating: 0x5A, count: 1000)
    var span = array.mutableSpan
    Self.key.apply(to: &span)
    Self.key.apply(to: &span)
    #expect(array == Array(repeating: 0x5A, count: 1000))
  }

  @Test("a random key is what the generator gives")
  func randomKey() {
    struct Fixed: RandomNumberGenerator {
      mutating func next() -> UInt64 { 0x0102_0304_0102_0304 }
    }
    var generator = Fixed()
    let key = MaskingKey.random(using: &generator)
    #expect([key.bytes.0, key.bytes.1, key.bytes.2, key.bytes.3].sorted() == [1, 2, 3, 4])
  }
}

@Suite("ATTACKS 41: masking keys")
struct MaskingKeySourceTests {
  @Test("2^20 keys repeat no more than random numbers of 32 bits do, and never in the order that they came")
  func keysAreFresh() {
    var source = MaskingKeySource()
    let count = 1 << 20
    var keys: [UInt32] = []
    keys.reserveCapacity(count)
    for _ in 0..<count { keys.append(source.next().word) }
    // A birthday is expected 128 times among 2^20 of 2^32; more than 300 times once in 10^30 runs.
    #expect(Set(keys).count > count - 300)
    let pairs = Set((1..<count).map { UInt64(keys[$0 - 1]) << 32 | UInt64(keys[$0]) })
    #expect(pairs.count == count - 1)
  }

  @Test("two sources give different keys")
  func sourcesDiffer() {
    var first = MaskingKeySource()
    var second = MaskingKeySource()
    let same = (0..<64).filter { _ in first.next() == second.next() }
    #expect(same.count < 2)
  }
}
