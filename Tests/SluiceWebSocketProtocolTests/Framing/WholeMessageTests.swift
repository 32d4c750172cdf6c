import SluiceStreams
import Testing

@testable import SluiceWebSocketProtocol

/// The first branch of the decoder's loop, seen through the relay, which takes nothing else.
@Suite("Whole messages")
struct WholeMessageTests {
  private static func relay(
    _ input: [UInt8], _ decoder: inout FrameDecoder, limit: Int = .max, highWatermark: Int = .max
  ) -> (count: Int, output: [UInt8]) {
    var output = BytesBuilder()
    let count = decoder.relay(input.span, to: &output, limit: limit, highWatermark: highWatermark, keys: nil)
    return (count, Array(output.take()))
  }

  @Test("are taken one after the other, up to the watermark", arguments: [WebSocketRole.client, .server])
  func taken(role: WebSocketRole) {
    let payloads: [[UInt8]] = [
      [], [1], Array(repeating: 2, count: 125), Array(repeating: 3, count: 126), Array(repeating: 4, count: 65536),
    ]
    let input = payloads.flatMap { frame(0x82, $0, for: role) }
    var decoder = FrameDecoder(role: role)
    let all = Self.relay(input, &decoder)
    #expect(all.count == input.count)
    #expect(all.output == payloads.flatMap { frame(0x82, $0, for: .client) })
    let one = Self.relay(input, &decoder, highWatermark: 1)
    #expect(one.count == frame(0x82, for: role).count)
    #expect(one.output == frame(0x82, for: .client))
  }

  @Test(
    "what is not one, or against the rules, is left",
    arguments: [
      "", "82", "82 81", "82 81 01 02 03", "82 81 01 02 03 04", "02 81 01 02 03 04 05", "80 81 01 02 03 04 05",
      "c1 81 01 02 03 04 05", "89 81 01 02 03 04 05", "88 80 01 02 03 04", "82 01 05", "82 fe", "82 fe 00",
      "82 fe 00 01 01 02 03 04 05", "82 ff 00 00 00 00 00 00 00 01 01 02 03 04 05", "82 ff 00 00 00 00 00 00 00",
      "82 ff 7f ff ff ff ff ff ff ff 01 02 03 04 05", "82 ff ff ff ff ff ff ff ff ff 01 02 03 04 05",
      "83 81 01 02 03 04 05",
    ])
  func left(input: String) {
    var decoder = FrameDecoder(role: .server)
    let relayed = Self.relay(hex(input), &decoder)
    #expect(relayed.count == 0)
    #expect(relayed.output == [])
  }

  @Test("one above the limit is left")
  func limit() {
    var decoder = FrameDecoder(role: .server)
    #expect(Self.relay(frame(0x82, [1, 2, 3]), &decoder, limit: 2).count == 0)
    #expect(Self.relay(frame(0x82, [1, 2, 3]), &decoder, limit: 3).count == 9)
  }

  @Test("none is taken inside a frame, a header or a fragmented message")
  func inside() throws {
    for prefix in [frame(0x02), Array(frame(0x82, [1, 2]).dropLast()), [0x82], Array(frame(0x89, [1, 2]).dropLast())] {
      var decoder = FrameDecoder(role: .server)
      var input = Bytes(prefix)
      while try decoder.next(in: &input) != nil {}
      #expect(Self.relay(frame(0x82, [1]), &decoder).count == 0)
    }
  }

  @Test("text that is not UTF-8 is left, behind what was relayed, and the decoder stays failed")
  func text() {
    var decoder = FrameDecoder(role: .server)
    let good = frame(0x81, [0x61])
    let relayed = Self.relay(good + frame(0x81, [0xFF]) + frame(0x82), &decoder)
    #expect(relayed.count == good.count)
    #expect(relayed.output == [0x81, 1, 0x61])
    #expect(Self.relay(good, &decoder).count == 0)
    var input = Bytes(good)
    #expect(throws: WebSocketProtocolError.invalidText) { try decoder.next(in: &input) }
  }
}
