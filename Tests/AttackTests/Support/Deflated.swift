/// Writes deflate streams (RFC 1951) bit by bit: right ones without zlib, and wrong ones that it would not write.
struct Deflated {
  private(set) var bytes: [UInt8] = []
  private var bits: UInt32 = 0
  private var count = 0

  /// A number, its least significant bit first.
  mutating func append(_ number: UInt32, bits length: Int) {
    bits |= number << count
    count += length
    while count >= 8 {
      bytes.append(UInt8(truncatingIfNeeded: bits))
      bits >>= 8
      count -= 8
    }
  }

  /// A Huffman code, its most significant bit first.
  private mutating func append(code: UInt32, bits length: Int) {
    for bit in stride(from: length - 1, through: 0, by: -1) { append(code >> UInt32(bit) & 1, bits: 1) }
  }

  mutating func beginBlock(isFinal: Bool = false, type: UInt32) {
    append(isFinal ? 1 : 0, bits: 1)
    append(type, bits: 2)
  }

  /// §3.2.6: the fixed codes of literals.
  mutating func appendLiteral(_ byte: UInt8) {
    if byte < 144 {
      append(code: 0x30 + UInt32(byte), bits: 8)
    } else {
      append(code: 0x190 + UInt32(byte) - 144, bits: 9)
    }
  }

  /// 258 bytes that repeat the one before them: the most that a code of 13 bits can say.
  mutating func appendRun() {
    append(code: 0xC5, bits: 8)
    append(code: 0, bits: 5)
  }

  mutating func appendRuns(_ count: Int) {
    // Eight of them fill 13 bytes, so that the ninth lies as the first did.
    let eights = count < 16 ? 0 : count / 8 - 1
    for _ in 0..<count - 8 * eights { appendRun() }
    guard eights > 0 else { return }
    var pattern = self
    for _ in 0..<8 { pattern.appendRun() }
    let thirteen = pattern.bytes.suffix(13)
    for _ in 0..<eights { bytes += thirteen }
  }

  /// A match of 3 bytes at a distance of 1 to 4.
  mutating func appendMatch(distance: UInt32) {
    append(code: 1, bits: 7)
    append(code: distance - 1, bits: 5)
  }

  mutating func endBlock() { append(code: 0, bits: 7) }

  /// To the next byte.
  mutating func align() { if count > 0 { append(0, bits: 8 - count) } }

  /// The end of a message: an empty stored block, without the four bytes that RFC 7692 §7.2.1 takes off.
  mutating func endMessage() {
    beginBlock(type: 0)
    align()
  }

  /// A message of text.
  static func message(_ text: String) -> [UInt8] {
    var stream = Deflated()
    stream.beginBlock(type: 1)
    for byte in text.utf8 { stream.appendLiteral(byte) }
    stream.endBlock()
    stream.endMessage()
    return stream.bytes
  }

  /// At least so many zeros, in a 158th of the bytes.
  static func zeros(_ count: Int) -> [UInt8] {
    var stream = Deflated()
    stream.beginBlock(type: 1)
    stream.appendLiteral(0)
    stream.appendRuns((count + 257) / 258)
    stream.endBlock()
    stream.endMessage()
    return stream.bytes
  }
}
