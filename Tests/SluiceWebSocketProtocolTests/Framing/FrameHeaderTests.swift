import SluiceStreams
import Testing

@testable import SluiceWebSocketProtocol

@Suite("Frame headers (RFC 6455 §5.2)")
struct FrameHeaderTests {
  static func parse(
    _ input: String, role: WebSocketRole = .client, reserved: ReservedBits = []
  ) throws -> FrameHeader? {
    try FrameHeaderParser(role: role, allowedReservedBits: reserved).parse(hex(input).span, at: 0)
  }

  static let key = MaskingKey(0x37, 0xFA, 0x21, 0x3D)

  @Test(
    "a header is read and written",
    arguments: [
      ("81 05", FrameHeader(.text, payloadLength: 5)),
      ("81 85 37 fa 21 3d", FrameHeader(.text, maskingKey: key, payloadLength: 5)),
      ("01 03", FrameHeader(.text, isFinal: false, payloadLength: 3)),
      ("80 02", FrameHeader(.continuation, payloadLength: 2)),
      ("89 05", FrameHeader(.ping, payloadLength: 5)),
      ("8a 85 37 fa 21 3d", FrameHeader(.pong, maskingKey: key, payloadLength: 5)),
      ("88 7d", FrameHeader(.close, payloadLength: 125)),
      ("82 00", FrameHeader(.binary, payloadLength: 0)),
      ("82 7d", FrameHeader(.binary, payloadLength: 125)),
      ("82 7e 00 7e", FrameHeader(.binary, payloadLength: 126)),
      ("82 7e 01 00", FrameHeader(.binary, payloadLength: 256)),
      ("82 7e ff ff", FrameHeader(.binary, payloadLength: 65535)),
      ("82 7f 00 00 00 00 00 01 00 00", FrameHeader(.binary, payloadLength: 65536)),
      ("82 7f 7f ff ff ff ff ff ff ff", FrameHeader(.binary, payloadLength: .max)),
      ("82 7f 7f ff ff ff ff ff ff f2", FrameHeader(.binary, payloadLength: .max - 13)),
      ("82 fe 01 00 37 fa 21 3d", FrameHeader(.binary, maskingKey: key, payloadLength: 256)),
      ("82 ff 00 00 00 00 00 01 00 00 37 fa 21 3d", FrameHeader(.binary, maskingKey: key, payloadLength: 65536)),
      ("c1 05", FrameHeader(.text, reserved: .rsv1, payloadLength: 5)),
    ])
  func roundTrip(encoded: String, header: FrameHeader) throws {
    let input = hex(encoded)
    let role: WebSocketRole = header.maskingKey == nil ? .client : .server
    let parser = FrameHeaderParser(role: role, allowedReservedBits: .rsv1)
    #expect(try parser.parse(input.span, at: 0) == header)
    #expect(header.encodedLength == input.count)
    #expect(
      FrameHeader.encodedLength(payloadLength: header.payloadLength, masked: header.maskingKey != nil) == input.count)
    #expect(try parser.parse(([9, 9, 9] + input + [9]).span, at: 3) == header)
    for count in 0..<input.count { #expect(try parser.parse(input.span.extracting(0..<count), at: 0) == nil) }
    var builder = BytesBuilder()
    builder.append(header)
    #expect(bytes(builder) == input)
  }

  @Test("a control frame is judged by its first two bytes", arguments: ["8", "9", "a"])
  func control(opcode: String) {
    let kind = Opcode(rawValue: UInt8(opcode, radix: 16)!)!
    #expect(throws: WebSocketProtocolError.fragmentedControlFrame(kind)) { try Self.parse("0\(opcode) 00") }
    #expect(throws: WebSocketProtocolError.controlFrameTooLong(kind)) { try Self.parse("8\(opcode) 7e") }
    #expect(throws: WebSocketProtocolError.controlFrameTooLong(kind)) { try Self.parse("8\(opcode) 7f") }
  }

  @Test("reserved bits are for the first frame of a message, and for who negotiated them")
  func reservedBits() throws {
    #expect(throws: WebSocketProtocolError.reservedBits(.rsv1, .text)) { try Self.parse("c1 00") }
    #expect(throws: WebSocketProtocolError.reservedBits(.rsv2, .text)) { try Self.parse("e1 00", reserved: .rsv1) }
    #expect(throws: WebSocketProtocolError.reservedBits(.rsv1, .continuation)) {
      try Self.parse("c0 00", reserved: .rsv1)
    }
    #expect(throws: WebSocketProtocolError.reservedBits(.rsv1, .ping)) { try Self.parse("c9 00", reserved: .rsv1) }
    #expect(try Self.parse("c2 00", reserved: .rsv1)?.reserved == .rsv1)
  }
}

@Suite("Frame writing")
struct FrameWritingTests {
  @Test("a frame without a key is not masked")
  func server() {
    var output = BytesBuilder()
    output.append(FrameHeader(.text, payloadLength: 5), "Hello".utf8.span)
    output.append(FrameHeader(.binary, isFinal: false, reserved: .rsv1, payloadLength: 1), [7].span)
    output.append(FrameHeader(.binary, payloadLength: 70000))
    #expect(bytes(output) == hex("81 05 48 65 6c 6c 6f 42 01 07 82 7f 00 00 00 00 00 01 11 70"))
  }

  @Test("a frame with a key is masked with it", arguments: [0, 5, 125, 126, 1000, 65536])
  func client(count: Int) {
    let payload = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
    let header = FrameHeader(.binary, maskingKey: MaskingKey(1, 2, 3, 250), payloadLength: count)
    var output = BytesBuilder()
    output.append(header, payload.span)
    #expect(decode([bytes(output)], reader: .pieces) == [.binary(payload)])
  }
}
