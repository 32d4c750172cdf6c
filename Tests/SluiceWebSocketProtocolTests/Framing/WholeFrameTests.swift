import SluiceStreams
import Testing

@testable import SluiceWebSocketProtocol

@Suite("Whole frames")
struct WholeFrameTests {
  @Test("whole messages are taken one after the other, where they lie", arguments: [WebSocketRole.client, .server])
  func taken(role: WebSocketRole) throws {
    let payloads: [[UInt8]] = [[], [1], Array(repeating: 2, count: 125), Array(repeating: 3, count: 126)]
    var decoder = FrameDecoder(role: role)
    let long = [UInt8](repeating: 4, count: 65536)
    decoder.feed(Bytes((payloads + [long]).flatMap { frame(0x82, $0, for: role) }))
    for payload in payloads + [long] {
      guard let frame = decoder.nextWhole(limit: 65536) else {
        Issue.record("no frame of \(payload.count) bytes")
        return
      }
      #expect(frame.kind == .binary)
      #expect((frame.maskingKey == nil) == (role == .client))
      #expect(Array(try decoder.message(of: frame)) == payload)
    }
    #expect(decoder.nextWhole(limit: .max) == nil)
    let hasInput = decoder.hasInput()
    #expect(!hasInput)
  }

  @Test(
    "what is not a whole message, or against the rules, is left for `next`",
    arguments: [
      "", "82", "82 81", "82 81 01 02 03", "82 81 01 02 03 04", "02 81 01 02 03 04 05", "80 81 01 02 03 04 05",
      "c1 81 01 02 03 04 05", "89 81 01 02 03 04 05", "88 80 01 02 03 04", "82 01 05", "82 fe", "82 fe 00",
      "82 fe 00 01 01 02 03 04 05", "82 ff 00 00 00 00 00 00 00 01 01 02 03 04 05", "82 ff 00 00 00 00 00 00 00",
      "82 ff 7f ff ff ff ff ff ff ff 01 02 03 04 05", "82 ff ff ff ff ff ff ff ff ff 01 02 03 04 05",
      "83 81 01 02 03 04 05",
    ])
  func left(input: String) {
    var decoder = FrameDecoder(role: .server)
    decoder.feed(Bytes(hex(input)))
    #expect(decoder.nextWhole(limit: .max) == nil)
    #expect(decoder.input.count == hex(input).count)
  }

  @Test("a message above the limit is left for `next`")
  func limit() {
    var decoder = FrameDecoder(role: .server)
    decoder.feed(Bytes(frame(0x82, [1, 2, 3])))
    #expect(decoder.nextWhole(limit: 2) == nil)
    #expect(decoder.nextWhole(limit: 3) != nil)
  }

  @Test("none is taken inside a frame, a header or a fragmented message")
  func inside() throws {
    let whole = frame(0x82, [1])
    for prefix in [frame(0x02), Array(frame(0x82, [1, 2]).dropLast()), [0x82], Array(frame(0x89, [1, 2]).dropLast())] {
      var decoder = FrameDecoder(role: .server)
      decoder.feed(Bytes(prefix))
      while try decoder.next() != nil {}
      decoder.feed(Bytes(whole))
      #expect(decoder.nextWhole(limit: .max) == nil)
    }
  }

  @Test("what was fed is taken as far as it is used, and only between messages")
  func takes() throws {
    let first = frame(0x82, [1])
    var decoder = FrameDecoder(role: .server)
    decoder.feed(Bytes(first + frame(0x82, [2])))
    decoder.take { input in
      #expect(input.count == 2 * first.count)
      return first.count
    }
    let second = try decoder.next()
    #expect(second.map { "\($0)" } == "\(FrameEvent.data(DataPiece(kind: .binary, bytes: [2])))")
    decoder.feed(Bytes(frame(0x02, [3])))
    while try decoder.next() != nil {}
    decoder.feed(Bytes(first))
    decoder.take { _ in
      Issue.record("a message may not begin inside of another one")
      return 0
    }
  }

  @Test("an empty slice holds no buffer")
  func emptyFeed() {
    var decoder = FrameDecoder(role: .server)
    decoder.feed(Bytes([1, 2, 3]).dropFirst(3))
    let isReleased = decoder.input.isIdentical(to: Bytes())
    #expect(isReleased)
  }

  @Test("text is checked when the message is asked for, and the decoder stays failed")
  func text() throws {
    var decoder = FrameDecoder(role: .server)
    decoder.feed(Bytes(frame(0x81, [0xFF]) + frame(0x82)))
    guard let frame = decoder.nextWhole(limit: .max) else {
      Issue.record("no frame")
      return
    }
    #expect(throws: WebSocketProtocolError.invalidText) { try decoder.message(of: frame) }
    #expect(decoder.nextWhole(limit: .max) == nil)
    #expect(throws: WebSocketProtocolError.invalidText) { try decoder.next() }
  }
}
