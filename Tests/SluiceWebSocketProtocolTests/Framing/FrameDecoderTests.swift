import SluiceStreams
import Testing

@testable import SluiceWebSocketProtocol

@Suite("Frame decoder: the examples of RFC 6455 §5.7")
struct FrameDecoderExampleTests {
  @Test("a single-frame unmasked text message")
  func unmasked() {
    expect(hex("81 05 48 65 6c 6c 6f"), role: .client, gives: [.text("Hello")])
  }

  @Test("a single-frame masked text message")
  func masked() {
    expect(hex("81 85 37 fa 21 3d 7f 9f 4d 51 58"), gives: [.text("Hello")])
  }

  @Test("a fragmented unmasked text message")
  func fragmented() {
    expect(hex("01 03 48 65 6c 80 02 6c 6f"), role: .client, gives: [.text("Hello")])
  }

  @Test("an unmasked ping and its masked pong")
  func pingPong() {
    expect(hex("89 05 48 65 6c 6c 6f"), role: .client, gives: [.ping(Array("Hello".utf8))])
    expect(hex("8a 85 37 fa 21 3d 7f 9f 4d 51 58"), gives: [.pong(Array("Hello".utf8))])
  }

  @Test("256 bytes and 64 KiB of binary")
  func long() {
    let short = (0..<256).map { UInt8(truncatingIfNeeded: $0) }
    expect(hex("82 7e 01 00") + short, role: .client, gives: [.binary(short)])
    let long = (0..<65536).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    let input = hex("82 7f 00 00 00 00 00 01 00 00") + long
    for reader in Reader.allCases {
      for split in [0, 1, 2, 9, 10, 11, 14, 4096, 65535, 65545] {
        let chunks = [Array(input[..<split]), Array(input[split...])]
        #expect(decode(chunks, role: .client, reader: reader) == [.binary(long)])
      }
      #expect(decode([frame(0x82, long)], reader: reader) == [.binary(long)])
    }
  }
}

@Suite("Frame decoder: messages and control frames")
struct FrameDecoderTests {
  @Test("several frames in one input come in order")
  func order() {
    let input =
      frame(0x81, Array("one".utf8)) + frame(0x89, [1]) + frame(0x82, [2, 3]) + frame(0x82) + frame(0x8A)
      + frame(0x81, Array("two".utf8)) + frame(0x88, closeBody(1000, Array("bye".utf8)))
    expect(
      input,
      gives: [
        .text("one"), .ping([1]), .binary([2, 3]), .binary([]), .pong([]), .text("two"), .close(1000, "bye"),
      ])
  }

  @Test("control frames come between the frames of a message, with its mask and text check undisturbed")
  func interleaved() {
    let input =
      frame(0x01, hex("e2 82")) + frame(0x89, [9]) + frame(0x00, hex("ac f0")) + frame(0x8A, [8, 8])
      + frame(0x00) + frame(0x80, hex("9f 98 80"))
    expect(input, gives: [.ping([9]), .pong([8, 8]), .text("€😀")])
  }

  @Test("control frames may carry 125 bytes")
  func longestControlFrame() {
    let payload = (0..<125).map { UInt8($0) }
    expect(frame(0x89, payload) + frame(0x8A, payload), gives: [.ping(payload), .pong(payload)])
    let reason = String(repeating: "é", count: 61)
    expect(frame(0x88, closeBody(4000, Array(reason.utf8))), gives: [.close(4000, reason)])
  }

  @Test("an input that others hold is not written to")
  func inputIsShared() throws {
    let input = frame(0x82, [1, 2, 3, 4, 5, 6, 7, 8])
    let shared = Bytes(input)
    var decoder = FrameDecoder(role: .server)
    var rest = shared
    #expect(try decoder.next(in: &rest) == .data(DataPiece(kind: .binary, bytes: [1, 2, 3, 4, 5, 6, 7, 8])))
    #expect(Array(shared) == input)
  }

  @Test("pieces stay what they were")
  func piecesStay() throws {
    var decoder = FrameDecoder(role: .server)
    var pieces: [Bytes] = []
    for round in 0..<50 {
      var input = Bytes((0..<100).flatMap { frame(0x82, Array(repeating: UInt8($0), count: $0 + round)) })
      while case .data(let piece)? = try decoder.next(in: &input) { pieces.append(piece.bytes) }
    }
    for (index, piece) in pieces.enumerated() {
      let (round, number) = index.quotientAndRemainder(dividingBy: 100)
      if Array(piece) != Array(repeating: UInt8(number), count: number + round) { Issue.record("piece \(index)") }
    }
    #expect(pieces.count == 5000)
  }

  @Test("an unmasked payload is a slice of the input")
  func zeroCopy() throws {
    var decoder = FrameDecoder(role: .client)
    var input = Bytes(hex("82 03 01 02 03"))
    guard case .data(let piece)? = try decoder.next(in: &input) else { return #expect(Bool(false)) }
    #expect(piece.bytes.startIndex == 2)
  }

  @Test("a frame comes in pieces as it arrives; each says what is still to come")
  func pieces() throws {
    var decoder = FrameDecoder(role: .client)
    var input = Bytes(hex("01 04"))
    #expect(try decoder.next(in: &input) == .data(piece([], isFirst: true, startsFrame: true, remaining: 4)))
    #expect(try decoder.next(in: &input) == nil)
    input = Bytes(hex("61 62 63"))
    #expect(try decoder.next(in: &input) == .data(piece([0x61, 0x62, 0x63], remaining: 1)))
    #expect(try decoder.next(in: &input) == nil)
    let isInside = decoder.isInsideMessage
    #expect(isInside)
    input = Bytes(hex("64 80 01 65"))
    #expect(try decoder.next(in: &input) == .data(piece([0x64])))
    #expect(try decoder.next(in: &input) == .data(piece([0x65], isFinal: true, startsFrame: true)))
    #expect(try decoder.next(in: &input) == nil)
    let isStillInside = decoder.isInsideMessage
    #expect(!isStillInside)
  }

  private func piece(
    _ bytes: Bytes, isFirst: Bool = false, isFinal: Bool = false, startsFrame: Bool = false, remaining: Int = 0
  ) -> DataPiece {
    DataPiece(
      kind: .text, bytes: bytes, isFirst: isFirst, isFinal: isFinal, startsFrame: startsFrame,
      remainingInFrame: remaining)
  }

  @Test("an extension's reserved bits come with every piece, and the text is not checked before it is decoded")
  func reservedBits() throws {
    let input = frame(0x41, [0xFF, 0xFE]) + frame(0x89) + frame(0x80, [0xFD]) + frame(0x81, [0x61])
    expect(input, reserved: .rsv1, gives: [.ping([]), .text([0xFF, 0xFE, 0xFD]), .text("a")])
    var decoder = FrameDecoder(role: .server, allowedReservedBits: .rsv1)
    var bits: [ReservedBits] = []
    var rest = Bytes(input)
    while let event = try decoder.next(in: &rest) {
      if case .data(let piece) = event { bits.append(piece.reserved) }
    }
    #expect(bits == [.rsv1, .rsv1, []])
  }
}

@Suite("ATTACKS 1-8, 10, 14: frames that break the rules")
struct FrameAttackTests {
  @Test("1: enormous lengths: the sign bit is a protocol error, the rest only too big, and nothing traps")
  func attack1_enormousLengths() {
    expect(
      hex("82 ff ff ff ff ff ff ff ff ff"), failsAtItsEndWith: .lengthOutOfRange(0xFFFF_FFFF_FFFF_FFFF))
    expect(
      hex("82 ff 80 00 00 00 00 00 00 00"), failsAtItsEndWith: .lengthOutOfRange(0x8000_0000_0000_0000))
    expect(
      hex("02 ff 80 00 00 00 00 00 00 00"), failsAtItsEndWith: .lengthOutOfRange(0x8000_0000_0000_0000))
    for (last, length) in [("ff", Int.max), ("f2", Int.max - 13)] {
      let input = hex("82 ff 7f ff ff ff ff ff ff \(last) 01 02 03 04")
      for extra in [[], [1], [1, 2, 3]] as [[UInt8]] {
        for reader in [Reader.assembler, .messages, .lent, .relay] {
          #expect(
            decode([input + extra], reader: reader)
              == [.error(.messageTooBig(limit: MessageAssembler.defaultMaxMessageSize, actual: length))])
        }
        #expect(decode([input + extra], reader: .pieces) == [])
      }
    }
  }

  @Test("1: the lengths of the fragments of a message don't overflow their sum")
  func attack1_sumOverflows() {
    let input = frame(0x02, [1]) + hex("80 ff 7f ff ff ff ff ff ff ff 01 02 03 04 05")
    for reader in [Reader.assembler, .messages, .lent, .relay] {
      #expect(
        decode([input], reader: reader)
          == [.error(.messageTooBig(limit: MessageAssembler.defaultMaxMessageSize, actual: .max))])
    }
  }

  @Test("2: a declared length of 1 GiB allocates nothing")
  func attack2_declaredLength() throws {
    var decoder = FrameDecoder(role: .server)
    var assembler = MessageAssembler(maxMessageSize: 2 << 30)
    var input = Bytes(hex("82 ff 00 00 00 00 40 00 00 00 01 02 03 04 05"))
    var message: Message?
    #expect(try decoder.nextMessage(in: &input, assembling: &assembler, &message) == .nothing)
    #expect(assembler.gathered.capacity < 1024)
    #expect(assembler.gathered.count == 1)
  }

  @Test("3: a length in more bytes than it needs is a protocol error")
  func attack3_nonMinimalLength() {
    expect(hex("82 fe 00 05"), failsAtItsEndWith: .nonMinimalLength(5, lengthBytes: 2))
    expect(hex("82 fe 00 7d"), failsAtItsEndWith: .nonMinimalLength(125, lengthBytes: 2))
    expect(hex("82 ff 00 00 00 00 00 00 01 f4"), failsAtItsEndWith: .nonMinimalLength(500, lengthBytes: 8))
    expect(
      hex("82 7f 00 00 00 00 00 00 ff ff"), role: .client, failsAtItsEndWith: .nonMinimalLength(65535, lengthBytes: 8))
    expect(hex("82 7e 00 00"), role: .client, failsAtItsEndWith: .nonMinimalLength(0, lengthBytes: 2))
  }

  @Test("4: a client's unmasked frame and a server's masked one are protocol errors")
  func attack4_mask() {
    for first in ["81", "82", "01", "88", "89", "8a"] {
      expect(hex("\(first) 00"), failsAtItsEndWith: .unmaskedFrame)
      expect(hex("\(first) 80"), role: .client, failsAtItsEndWith: .maskedFrame)
    }
    expect(hex("82 05 01 02 03 04 05"), gives: [.error(.unmaskedFrame)])
    expect(frame(0x82, [1]), role: .client, gives: [.error(.maskedFrame)])
  }

  @Test("5: a long or fragmented control frame fails with its second byte", arguments: [0x8, 0x9, 0xA] as [UInt8])
  func attack5_controlFrames(opcode: UInt8) {
    let kind = Opcode(rawValue: opcode)!
    expect([opcode, 0x80], failsAtItsEndWith: .fragmentedControlFrame(kind))
    expect([opcode, 0x85], failsAtItsEndWith: .fragmentedControlFrame(kind))
    expect([0x80 | opcode, 0xFE], failsAtItsEndWith: .controlFrameTooLong(kind))
    expect([0x80 | opcode, 0x7F], role: .client, failsAtItsEndWith: .controlFrameTooLong(kind))
    expect(frame(0x01, [0x61]) + [opcode, 0x80], failsAtItsEndWith: .fragmentedControlFrame(kind))
  }

  @Test("6: reserved opcodes and bits are protocol errors")
  func attack6_reserved() {
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] as [UInt8] {
      expect([0x80 | opcode, 0x80], failsAtItsEndWith: .reservedOpcode(opcode))
      expect([opcode, 0x00], role: .client, failsAtItsEndWith: .reservedOpcode(opcode))
    }
    for (bit, reserved) in [(0x40, ReservedBits.rsv1), (0x20, .rsv2), (0x10, .rsv3)] as [(UInt8, ReservedBits)] {
      for opcode in [Opcode.text, .binary, .close, .ping, .pong, .continuation] {
        expect([0x80 | bit | opcode.rawValue, 0x80], failsAtItsEndWith: .reservedBits(reserved, opcode))
      }
    }
    let rsv1 = frame(0x41, [1])
    expect(rsv1 + frame(0xC0, [2]), reserved: .rsv1, gives: [.error(.reservedBits(.rsv1, .continuation))])
    expect(rsv1 + frame(0xC9), reserved: .rsv1, gives: [.error(.reservedBits(.rsv1, .ping))])
    expect(frame(0xE1), reserved: .rsv1, gives: [.error(.reservedBits(.rsv2, .text))])
    expect(frame(0xF2), gives: [.error(.reservedBits([.rsv1, .rsv2, .rsv3], .binary))])
  }

  @Test("7: a continuation without a start is a protocol error")
  func attack7_continuationWithoutStart() {
    expect(frame(0x80), failsAtItsEndWith: .unexpectedContinuation)
    expect(frame(0x00), failsAtItsEndWith: .unexpectedContinuation)
    expect(
      frame(0x01, [0x61]) + frame(0x80, [0x62]) + frame(0x80), failsAtItsEndWith: .unexpectedContinuation,
      after: [.text("ab")])
  }

  @Test("7: a new message inside a fragmented one is a protocol error", arguments: [0x81, 0x82, 0x01, 0x02] as [UInt8])
  func attack7_interruptedMessage(first: UInt8) {
    let kind = Opcode(rawValue: first & 0x0F)!
    expect(frame(0x01, [0x61]) + frame(first), failsAtItsEndWith: .interruptedMessage(by: kind))
    expect(
      frame(0x02) + frame(0x89) + frame(first), failsAtItsEndWith: .interruptedMessage(by: kind), after: [.ping([])])
  }

  @Test("7: a Close inside a fragmented message ends the connection, and the message is not delivered")
  func attack7_closeInsideMessage() {
    let input = frame(0x01, [0x61]) + frame(0x88, closeBody(1000)) + frame(0x80, [0x62])
    expect(input, gives: [.close(1000, "")])
  }

  @Test(
    "8: codes that are not for the wire are protocol errors",
    arguments: [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] as [UInt16])
  func attack8_badCodes(code: UInt16) {
    expect(frame(0x88, closeBody(code)), failsAtItsEndWith: .invalidCloseCode(CloseCode(rawValue: code)))
    expect(
      frame(0x88, closeBody(code, [0x61]), for: .client), role: .client,
      failsAtItsEndWith: .invalidCloseCode(CloseCode(rawValue: code)))
  }

  @Test(
    "8: the registered and private codes are taken",
    arguments: [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
      as [UInt16])
  func attack8_goodCodes(code: UInt16) {
    expect(frame(0x88, closeBody(code)), gives: [.close(code, "")])
  }

  @Test("8: a Close of one byte is a protocol error before the byte has come; one without a body is none")
  func attack8_body() {
    let input = frame(0x88, [3])
    expect(Array(input.dropLast()), failsAtItsEndWith: .truncatedCloseCode)
    expect(input, gives: [.error(.truncatedCloseCode)])
    expect(frame(0x88), gives: [.close(nil, "")])
  }

  @Test(
    "8: a reason that is not UTF-8 is an invalid payload", arguments: ["ff", "c3", "e2 82", "ed a0 80", "f4 90 80 80"])
  func attack8_reason(reason: String) {
    expect(frame(0x88, closeBody(1000, hex(reason))), failsAtItsEndWith: .invalidCloseReason)
  }

  @Test(
    "10: text fails at the first bad byte, in the midst of a frame",
    arguments: ["80", "c0", "e0 9f", "ed a0", "f0 8f", "f4 90", "f5", "ce ba e1 bd b9 cf 83 ce bc ce b5 ed a0"])
  func attack10_firstBadByte(text: String) {
    // The frame promises 3 bytes more, which never come.
    let whole = frame(0x81, hex(text) + [0x80, 0x80, 0x80])
    expect(Array(whole.dropLast(3)), failsAtItsEndWith: .invalidText)
    // In a fragment, with a ping before the bad byte.
    let bad = hex(text)
    let split = frame(0x01, Array(bad.dropLast())) + frame(0x89) + Array(frame(0x80, [bad.last!, 0x61]).dropLast())
    expect(split, failsAtItsEndWith: .invalidText, after: [.ping([])])
    // Behind more text than is checked at a time.
    let padded = frame(0x81, Array(repeating: 0x61, count: 80) + bad + [0x61])
    expect(Array(padded.dropLast()), failsAtItsEndWith: .invalidText)
  }

  @Test("10: text that ends inside a character fails at its end", arguments: ["c3", "e2 82", "f0 9f 98"])
  func attack10_truncated(text: String) {
    expect(frame(0x81, hex(text)), failsAtItsEndWith: .truncatedText)
    expect(frame(0x01, hex(text)) + frame(0x80), failsAtItsEndWith: .truncatedText)
    expect(frame(0x01, hex("61 \(text)")) + frame(0x00) + frame(0x80), failsAtItsEndWith: .truncatedText)
  }

  @Test("10: a bad message does not spoil what came before it, and binary may hold anything")
  func attack10_before() {
    expect(frame(0x81, hex("c3 a9")) + frame(0x81, [0xFF]), gives: [.text("é"), .error(.invalidText)])
    expect(frame(0x82, [0xFF, 0xC0]) + frame(0x81, [0x61]), gives: [.binary([0xFF, 0xC0]), .text("a")])
  }

  @Test("14: what comes after a Close is ignored, broken or not")
  func attack14_dataAfterClose() {
    let close = frame(0x88, closeBody(1001, Array("gone".utf8)))
    expect(close + frame(0x81, [0x61]) + close + hex("ff ff ff ff"), gives: [.close(1001, "gone")])
  }
}
