import SluiceStreams
import Testing

@testable import SluiceWebSocketProtocol

@Suite("Limits of messages, at their last good value and their first bad one")
struct LimitTests {
  /// What a client decodes: frames without masks.
  private func decode(
    _ frames: [UInt8], pieceSize: Int, maxMessageSize: Int = 1000, maxFragments: Int = 1000
  ) throws -> [Int] {
    var machine = WebSocketMachine(
      .client, keys: nil, maxMessageSize: maxMessageSize, maxFragments: maxFragments)
    var counts: [Int] = []
    var rest = Bytes(frames)
    var input = Bytes()
    while !rest.isEmpty {
      let piece = rest.prefix(pieceSize)
      rest = rest.dropFirst(piece.count)
      input = input.followed(by: piece)
      while let event = try machine.nextEvent(in: &input) {
        if case .data(let message) = event { counts.append(message.bytes.count) }
      }
    }
    return counts
  }

  private func frame(_ first: UInt8, _ count: Int) -> [UInt8] {
    [first] + (count < 126 ? [UInt8(count)] : [126, UInt8(count >> 8), UInt8(count & 255)])
      + [UInt8](repeating: 0x61, count: count)
  }

  @Test("bytes of a message in one frame", arguments: [1, 5, 10_000])
  func messageBytes(pieceSize: Int) throws {
    #expect(try decode(frame(0x82, 1000), pieceSize: pieceSize) == [1000])
    #expect(throws: WebSocketProtocolError.messageTooBig(limit: 1000, actual: 1001)) {
      try decode(frame(0x82, 1001), pieceSize: pieceSize)
    }
  }

  @Test("bytes of a message in several frames", arguments: [1, 5, 10_000])
  func fragmentedBytes(pieceSize: Int) throws {
    let most = frame(0x02, 600) + frame(0x00, 0)
    #expect(try decode(most + frame(0x80, 400), pieceSize: pieceSize) == [1000])
    #expect(throws: WebSocketProtocolError.messageTooBig(limit: 1000, actual: 1001)) {
      try decode(most + frame(0x80, 401), pieceSize: pieceSize)
    }
  }

  @Test("frames of a message, empty ones too", arguments: [1, 10_000])
  func fragments(pieceSize: Int) throws {
    let three = frame(0x02, 1) + frame(0x00, 0) + frame(0x80, 1)
    #expect(try decode(three, pieceSize: pieceSize, maxFragments: 3) == [2])
    // What one message had does not count for the next.
    #expect(try decode(three + three, pieceSize: pieceSize, maxFragments: 3) == [2, 2])
    #expect(throws: WebSocketProtocolError.tooManyFragments(limit: 2)) {
      try decode(three, pieceSize: pieceSize, maxFragments: 2)
    }
  }
}
