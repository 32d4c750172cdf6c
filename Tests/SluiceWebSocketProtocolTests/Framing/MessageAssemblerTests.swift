import SluiceStreams
import Testing

@testable import SluiceWebSocketProtocol

@Suite("Message assembler")
struct MessageAssemblerTests {
  static func piece(
    _ bytes: Bytes, isFirst: Bool = false, isFinal: Bool = false, startsFrame: Bool = true, remaining: Int = 0
  ) -> DataPiece {
    DataPiece(
      kind: .binary, bytes: bytes, isFirst: isFirst, isFinal: isFinal, startsFrame: startsFrame,
      remainingInFrame: remaining)
  }

  @Test("a message in one piece passes through without a copy")
  func passesThrough() throws {
    var assembler = MessageAssembler()
    let slice = Bytes([1, 2, 3, 4])[2..<4]
    let message = try assembler.append(Self.piece(slice, isFirst: true, isFinal: true))
    #expect(message?.bytes.startIndex == 2)
    #expect(message == Message(kind: .binary, bytes: [3, 4]))
  }

  @Test("pieces are joined")
  func joins() throws {
    var assembler = MessageAssembler()
    for _ in 0..<2 {
      #expect(try assembler.append(Self.piece([1], isFirst: true, remaining: 1)) == nil)
      #expect(try assembler.append(Self.piece([2], startsFrame: false)) == nil)
      #expect(try assembler.append(Self.piece([])) == nil)
      #expect(
        try assembler.append(Self.piece([3], isFinal: true)) == Message(kind: .binary, bytes: [1, 2, 3]))
    }
  }

  @Test("a message of exactly the limit is taken, and one more byte is refused before it is kept")
  func sizeLimit() throws {
    var assembler = MessageAssembler(maxMessageSize: 3)
    #expect(try assembler.append(Self.piece([1, 2, 3], isFirst: true, isFinal: true))?.bytes.count == 3)
    #expect(throws: WebSocketProtocolError.messageTooBig(limit: 3, actual: 4)) {
      try assembler.append(Self.piece([1, 2, 3, 4], isFirst: true, isFinal: true))
    }
    #expect(throws: WebSocketProtocolError.messageTooBig(limit: 3, actual: 4)) {
      try assembler.append(Self.piece([], isFirst: true, remaining: 4))
    }
    #expect(try assembler.append(Self.piece([1, 2], isFirst: true)) == nil)
    #expect(throws: WebSocketProtocolError.messageTooBig(limit: 3, actual: 4)) {
      try assembler.append(Self.piece([3], remaining: 1))
    }
    #expect(assembler.gathered.count == 2)
  }

  @Test(
    "the limit holds for every reader, in one frame and in many",
    arguments: [Reader.assembler, .messages, .lent, .relay])
  func limitsWire(reader: Reader) {
    let error = Found.error(.messageTooBig(limit: 10, actual: 11))
    let ten: [UInt8] = Array(repeating: 1, count: 10)
    #expect(decode([frame(0x82, ten)], reader: reader, maxMessageSize: 10) == [.binary(ten)])
    let eleven = frame(0x82, ten + [1])
    #expect(decode([eleven], reader: reader, maxMessageSize: 10) == [error])
    // At the header, before any payload.
    #expect(decode([Array(eleven[..<6])], reader: reader, maxMessageSize: 10) == [error])
    #expect(decode(eleven.map { [$0] }, reader: reader, maxMessageSize: 10) == [error])
    let many = frame(0x02, Array(ten[..<6])) + frame(0x00, [1, 1, 1, 1]) + frame(0x80)
    #expect(decode([many], reader: reader, maxMessageSize: 10) == [.binary(ten)])
    let tooMany = frame(0x02, Array(ten[..<6])) + frame(0x00, [1, 1, 1, 1]) + frame(0x80, [1])
    #expect(decode([tooMany], reader: reader, maxMessageSize: 10) == [error])
    #expect(decode(tooMany.map { [$0] }, reader: reader, maxMessageSize: 10) == [error])
  }

  @Test("ATTACKS 11: fragments without end, empty or of one byte, are refused", arguments: [0, 1])
  func attack11_fragmentsWithoutEnd(size: Int) throws {
    let payload = [UInt8](repeating: 0, count: size)
    for reader in [Reader.assembler, .messages] {
      var chunks = [frame(0x02, payload)]
      let thousand = (0..<1000).flatMap { _ in frame(0x00, payload) }
      chunks += Array(repeating: thousand, count: 132)
      let found = decode(chunks, reader: reader)
      #expect(found == [.error(.tooManyFragments(limit: 131_072))])
    }
    #expect(WebSocketProtocolError.tooManyFragments(limit: 1).closeCode == .policyViolation)
  }

  @Test("ATTACKS 11: what is gathered is at most twice what came")
  func attack11_memory() throws {
    var assembler = MessageAssembler()
    _ = try assembler.append(Self.piece([1], isFirst: true))
    for count in 2...100_000 {
      _ = try assembler.append(Self.piece([1]))
      if assembler.gathered.capacity > max(2 * count, 64) {
        Issue.record("\(assembler.gathered.capacity) for \(count)")
      }
    }
  }

  @Test("a new first piece drops what an abandoned message left")
  func reset() throws {
    var assembler = MessageAssembler(maxMessageSize: 3, maxFragments: 2)
    _ = try assembler.append(Self.piece([1, 2], isFirst: true))
    #expect(try assembler.append(Self.piece([3, 4], isFirst: true, isFinal: true))?.bytes == [3, 4])
    _ = try assembler.append(Self.piece([1, 2], isFirst: true))
    assembler.reset()
    #expect(assembler.gathered.count == 0)
  }
}
