import SluiceStreams

/// Writes whole messages of one connection straight into the frames for another: unmasked, checked and masked anew in the output, without
/// becoming a message. What is longer than the limit, in parts, or a control frame is left in the input.
struct FrameRelay: ~Copyable, MessageSink {
  /// What the frames are appended to.
  private var output: BytesBuilder
  let wholeFrameLimit: Int
  private let highWatermark: Int
  private let keys: MaskingKeys?

  init(to output: consuming BytesBuilder, limit: Int, highWatermark: Int, keys: MaskingKeys?) {
    self.output = output
    wholeFrameLimit = limit
    self.highWatermark = highWatermark
    self.keys = keys
  }

  static var takesParts: Bool { false }
  var hasRoom: Bool { output.count < highWatermark }

  /// The frame under way.
  struct Mark {
    let start: Int
    let body: Int
    let key: MaskingKey?
  }

  @inline(__always)
  mutating func begin(_ part: DataPart, canSlice: Bool) throws(WebSocketProtocolError) -> Mark? {
    let start = output.count
    let key = keys?.next()
    output.append(FrameHeader(part.kind.opcode, maskingKey: key, payloadLength: part.count))
    return Mark(start: start, body: output.count, key: key)
  }

  @inline(__always)
  mutating func withMemory(_ body: (inout BytesBuilder) -> Bool) -> Bool { body(&output) }

  @inline(__always)
  mutating func end(_ part: DataPart, _ mark: Mark) -> Never? {
    if let key = mark.key { output.withMutableSpan(from: mark.body) { key.apply(to: &$0) } }
    return nil
  }

  // It asks for none.
  mutating func end(_ part: DataPart, slice: Bytes) -> Never? { nil }

  mutating func drop(_ mark: Mark) { output.truncate(to: mark.start) }

  /// The output, with what was relayed.
  consuming func finish() -> BytesBuilder { output }
}

extension FrameDecoder {
  /// Relays whole messages from the front of the input.
  /// - Parameters:
  ///   - output: The target's.
  ///   - limit: Bytes of a message.
  ///   - highWatermark: Bytes of the output above which there is no room.
  ///   - keys: The target's, if it is a client.
  /// - Returns: how many bytes they were. A message that is not UTF-8 stays: the decoder fails with it at its next call.
  package mutating func relay(
    _ input: Span<UInt8>, to output: inout BytesBuilder, limit: Int, highWatermark: Int, keys: MaskingKeys?
  ) -> Int {
    var relay = FrameRelay(to: output.move(), limit: limit, highWatermark: highWatermark, keys: keys)
    var position = 0
    var none: Never?
    _ = try? decode(input, from: &position, of: nil, into: &relay, &none)
    output = relay.finish()
    return position
  }
}
