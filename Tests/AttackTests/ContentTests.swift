import Sluice
import SluiceWebSocketProtocol
import Testing

/// What section 9 of the Autobahn suite sends, whose content it does not look at.
@Suite("Content of large messages, fragments and pieces", .timeLimit(.minutes(5)))
struct ContentTests {
  /// Bytes that tell when one is missing, doubled, or in another's place: a prime number of them over and over, so that no
  /// size of a buffer or a piece divides the period.
  private static func bytes(_ count: Int) -> [UInt8] { repeated(block, to: count, filler: 0) }

  /// Text of characters of one to four bytes, which no size of a piece divides.
  private static func text(_ count: Int) -> [UInt8] { repeated(textBlock, to: count, filler: 0x2E) }

  private static let block: [UInt8] = {
    var state: UInt32 = 2_463_534_242
    return (0..<65_521).map { _ in
      state ^= state << 13
      state ^= state >> 17
      state ^= state << 5
      return UInt8(truncatingIfNeeded: state)
    }
  }()

  private static let textBlock: [UInt8] = {
    let characters = ["a", "é", "€", "😀", "\u{0}", "\u{10FFFF}", "中"].map { Array($0.utf8) }
    var text: [UInt8] = []
    for index in 0..<1000 { text += characters[Int(block[index]) % characters.count] }
    return text
  }()

  private static func repeated(_ block: [UInt8], to count: Int, filler: UInt8) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    while bytes.count + block.count <= count { bytes += block }
    return bytes + [UInt8](repeating: filler, count: count - bytes.count)
  }

  private static func payload(_ first: UInt8, _ count: Int) -> [UInt8] { first == 0x81 ? text(count) : bytes(count) }

  /// Sends bytes in pieces, and reads what comes back at the same time.
  private func echo(
    _ server: AttackedServer, _ bytes: [UInt8], pieceSize: Int, count: Int
  ) async throws -> [UInt8] {
    let attacker = try await server.open()
    let sending = Task {
      var rest = bytes[...]
      while !rest.isEmpty {
        try await attacker.send(Array(rest.prefix(pieceSize)))
        rest = rest.dropFirst(pieceSize)
      }
    }
    let answer = try await attacker.receive(count)
    try await sending.value
    attacker.socket.abort(CancellationError())
    return answer
  }

  @Test("9.1, 9.2: whole messages of a byte to 2 MiB come back byte for byte", arguments: [0x81, 0x82] as [UInt8])
  func whole(first: UInt8) async throws {
    for mode in ["pipe", "await"] {
      try await AttackedServer.run(mode) { server in
        for size in [1, 125, 126, 65535, 65536, 256 << 10, (2 << 20) + 1] {
          let payload = Self.payload(first, size)
          let expected = unmaskedFrame(first, payload)
          let answer = try await echo(server, frame(first, payload), pieceSize: .max, count: expected.count)
          #expect(answer == expected, "\(size) bytes, \(mode)")
        }
      }
    }
  }

  @Test(
    "9.3, 9.4: a message of 1 MiB in fragments of 64 bytes to 1 MiB comes back as one",
    arguments: [0x81, 0x82] as [UInt8])
  func fragments(first: UInt8) async throws {
    try await AttackedServer.run { server in
      let payload = Self.payload(first, 1 << 20)
      let expected = unmaskedFrame(first, payload)
      for size in [64, 256, 1021, 4 << 10, 16 << 10, 65537, 1 << 20] {
        var bytes: [UInt8] = []
        for start in stride(from: 0, to: payload.count, by: size) {
          bytes += frame(start == 0 ? first & 0x0F : 0x00, payload[start..<min(start + size, payload.count)])
        }
        bytes += frame(0x80)
        let answer = try await echo(server, bytes, pieceSize: 1 << 20, count: expected.count)
        #expect(answer == expected, "fragments of \(size) bytes")
      }
    }
  }

  @Test(
    "9.5, 9.6: a message of 256 KiB in pieces of the network of 64 to 2048 bytes", arguments: [0x81, 0x82] as [UInt8])
  func pieces(first: UInt8) async throws {
    try await AttackedServer.run { server in
      let payload = Self.payload(first, 256 << 10)
      let expected = unmaskedFrame(first, payload)
      for size in [64, 251, 1024, 2048] {
        let answer = try await echo(server, frame(first, payload), pieceSize: size, count: expected.count)
        #expect(answer == expected, "pieces of \(size) bytes")
      }
    }
  }

  @Test("9.7, 9.8: a thousand messages of each size come back in order, with pings between them that are answered")
  func many() async throws {
    try await AttackedServer.run { server in
      for size in [0, 16, 64, 256, 1024, 4096] {
        let bytes = Self.block
        var input: [UInt8] = []
        var messages: [UInt8] = []
        for number in 0..<1000 {
          input += frame(0x82, bytes[number..<number + size])
          messages += unmaskedFrame(0x82, bytes[number..<number + size])
          if number % 100 == 99 { input += frame(0x89, "\(number)") }
        }
        let attacker = try await server.open()
        async let sent: Void = attacker.send(input + frame(0x88))
        let (data, controls) = split(await attacker.receiveAll().bytes)
        try await sent
        #expect(data == messages, "\(size) bytes")
        // Of several pings that wait the latest is answered.
        #expect(controls.suffix(2) == [unmaskedFrame(0x8A, "999"), unmaskedFrame(0x88)], "\(size) bytes")
      }
    }
  }

  /// The frames of an answer, data and control apart.
  private func split(_ bytes: [UInt8]) -> (data: [UInt8], controls: [[UInt8]]) {
    var data: [UInt8] = []
    var controls: [[UInt8]] = []
    var rest = bytes[...]
    while rest.count >= 2 {
      let start = rest.startIndex
      var count = 2 + Int(rest[start + 1])
      if rest[start + 1] == 126 { count = 4 + Int(rest[start + 2]) << 8 + Int(rest[start + 3]) }
      let frame = rest.prefix(count)
      if frame[start] & 0x08 == 0 { data += frame } else { controls.append(Array(frame)) }
      rest = rest.dropFirst(count)
    }
    return (data, controls)
  }

  @Test("a client of ours gives and takes the same, whole and in fragments", arguments: [0x81, 0x82] as [UInt8])
  func client(first: UInt8) async throws {
    let payload = Self.payload(first, (1 << 20) + 3)
    let kind: MessageKind = first == 0x81 ? .text : .binary
    try await withClient(
      of: { server in
        // What the client sends: one frame, then one in fragments. Its echo, each way.
        let header = try await server.receive(14)
        #expect(Array(header.prefix(10)) == [first, 0xFF] + bigEndian(UInt64(payload.count)), "\(payload.count)")
        let masked = try await server.receive(payload.count)
        #expect(masked.indices.allSatisfy { masked[$0] ^ header[10 + $0 & 3] == payload[$0] })
        var fragments: [UInt8] = []
        for start in stride(from: 0, to: payload.count, by: 1000) {
          let end = min(start + 1000, payload.count)
          fragments += unmaskedFrame(
            (start == 0 ? first & 0x0F : 0) | (end == payload.count ? 0x80 : 0), payload[start..<end])
        }
        try await server.send(unmaskedFrame(first, payload) + fragments)
      },
      runs: { ws in
        try await ws.send(Message(kind: kind, bytes: Bytes(payload)))
        for _ in 0..<2 {
          let message = try #require(try await ws.read())
          #expect(message.bytes == Bytes(payload) && message.kind == kind)
        }
      },
      answers: { _ in })
  }
}
