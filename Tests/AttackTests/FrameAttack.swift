import Testing

/// What a peer may send that is wrong, behind a message that is right, and what an echo server makes of it.
struct FrameAttack: Sendable, CustomTestStringConvertible {
  /// The line of the list of attacks.
  let line: Int
  let name: String
  let bytes: [UInt8]
  /// Everything that comes back, to the end of the connection.
  let answer: [UInt8]

  var testDescription: String { "\(line): \(name)" }

  static let before = frame(0x81, "before")
  static let echoOfBefore = unmaskedFrame(0x81, "before")

  init(_ line: Int, _ name: String, _ bytes: [UInt8], answer: [UInt8]) {
    self.line = line
    self.name = name
    self.bytes = Self.before + bytes
    self.answer = Self.echoOfBefore + answer
  }

  init(_ line: Int, _ name: String, _ bytes: [UInt8], closes code: UInt16) {
    self.init(line, name, bytes, answer: close(code))
  }

  /// Lines 1 to 8, 10 and 14.
  static let all: [FrameAttack] =
    lengths + masks + controls + reserved + fragmentation + closes + text + afterClose

  private static let lengths = [
    FrameAttack(1, "a length of 0xFFFFFFFFFFFFFFFF", hex("82 ff ff ff ff ff ff ff ff ff"), closes: 1002),
    FrameAttack(1, "a length of 0x8000000000000000", hex("82 ff 80 00 00 00 00 00 00 00"), closes: 1002),
    FrameAttack(1, "a length of Int.max", hex("82 ff 7f ff ff ff ff ff ff ff 01 02 03 04"), closes: 1009),
    FrameAttack(1, "a length of Int.max - 13", hex("82 ff 7f ff ff ff ff ff ff f2 01 02 03 04"), closes: 1009),
    FrameAttack(
      1, "lengths whose sum overflows",
      frame(0x02, [1]) + hex("80 ff 7f ff ff ff ff ff ff ff 01 02 03 04"), closes: 1009),
    FrameAttack(2, "a frame of 1 GiB", hex("82 ff 00 00 00 00 40 00 00 00 01 02 03 04"), closes: 1009),
    FrameAttack(3, "5 in two bytes", hex("82 fe 00 05"), closes: 1002),
    FrameAttack(3, "125 in two bytes", hex("82 fe 00 7d"), closes: 1002),
    FrameAttack(3, "500 in eight bytes", hex("82 ff 00 00 00 00 00 00 01 f4"), closes: 1002),
    FrameAttack(3, "65535 in eight bytes", hex("82 ff 00 00 00 00 00 00 ff ff"), closes: 1002),
  ]

  private static let masks = ["81", "82", "01", "88", "89", "8a"].map { first in
    FrameAttack(4, "an unmasked frame \(first)", hex("\(first) 01 61"), closes: 1002)
  }

  private static let controls = [0x8, 0x9, 0xA].flatMap { (opcode: UInt8) in
    [
      FrameAttack(5, "opcode \(opcode) without FIN", [opcode, 0x81], closes: 1002),
      FrameAttack(5, "opcode \(opcode) of 126 bytes", [0x80 | opcode, 0xFE], closes: 1002),
      FrameAttack(5, "opcode \(opcode) of 2^16 bytes", [0x80 | opcode, 0xFF], closes: 1002),
    ]
  }

  private static let reserved =
    [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF].map { (opcode: UInt8) in
      FrameAttack(6, "the reserved opcode \(opcode)", frame(0x80 | opcode, "x"), closes: 1002)
    }
    + [0x40, 0x20, 0x10, 0x70].flatMap { (bits: UInt8) in
      [0x81, 0x82, 0x88, 0x89, 0x8A].map { (first: UInt8) in
        FrameAttack(6, "reserved bits \(bits) on \(first)", frame(first | bits), closes: 1002)
      } + [
        FrameAttack(6, "reserved bits \(bits) on a continuation", frame(0x01, "a") + frame(0x80 | bits), closes: 1002)
      ]
    }

  private static let fragmentation = [
    FrameAttack(7, "a continuation without a start", frame(0x80, "x"), closes: 1002),
    FrameAttack(7, "a first continuation without a start", frame(0x00, "x"), closes: 1002),
    FrameAttack(7, "text inside a fragmented message", frame(0x01, "a") + frame(0x81, "b"), closes: 1002),
    FrameAttack(7, "binary inside a fragmented message", frame(0x01, "a") + frame(0x02, "b"), closes: 1002),
    FrameAttack(
      7, "Close inside a fragmented message", frame(0x01, "a") + frame(0x88, bigEndian(UInt16(1000))),
      answer: close(1000)),
  ]

  private static let closes =
    [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535].map { (code: UInt16) in
      FrameAttack(8, "the close code \(code)", frame(0x88, bigEndian(code)), closes: 1002)
    } + [
      FrameAttack(8, "a Close of one byte", frame(0x88, [0x03]), closes: 1002),
      FrameAttack(8, "a reason that is not UTF-8", frame(0x88, bigEndian(UInt16(1000)) + [0xC3, 0x28]), closes: 1007),
      FrameAttack(8, "a reason cut off", frame(0x88, bigEndian(UInt16(1000)) + [0xE2, 0x82]), closes: 1007),
      FrameAttack(8, "a Close without a code", frame(0x88), answer: unmaskedFrame(0x88)),
      FrameAttack(8, "a Close with 3000", frame(0x88, bigEndian(UInt16(3000)) + "ok".utf8), answer: close(3000)),
    ]

  private static let text =
    [
      "c0 af", "e0 80 af", "f0 80 80 af", "ed a0 80", "ed bf bf", "f4 90 80 80", "f8 88 80 80 80", "80", "ff",
      "61 c3 28",
    ]
    .map { bytes in
      // Three more bytes are promised and never come: the first bad byte is enough.
      FrameAttack(
        10, "text with \(bytes), not finished", Array(frame(0x81, hex(bytes) + [0x61, 0x61, 0x61]).dropLast(3)),
        closes: 1007)
    } + [
      FrameAttack(10, "text cut off inside a character", frame(0x81, hex("61 e2 82")), closes: 1007),
      FrameAttack(
        10, "fragmented text cut off inside a character", frame(0x01, hex("f0 9f")) + frame(0x00) + frame(0x80, [0x98]),
        closes: 1007),
      FrameAttack(10, "a bad byte in a second fragment", frame(0x01, hex("ce ba")) + frame(0x00, [0xFF]), closes: 1007),
    ]

  private static let afterClose = [
    FrameAttack(
      14, "data after Close", frame(0x88, bigEndian(UInt16(1000))) + frame(0x81, "late") + frame(0x89, "late"),
      answer: close(1000)),
    FrameAttack(
      14, "a second Close", frame(0x88, bigEndian(UInt16(1000))) + frame(0x88, bigEndian(UInt16(1001))),
      answer: close(1000)),
    FrameAttack(
      14, "rubbish after Close", frame(0x88, bigEndian(UInt16(1000))) + hex("ff ff ff ff ff"), answer: close(1000)),
  ]
}
