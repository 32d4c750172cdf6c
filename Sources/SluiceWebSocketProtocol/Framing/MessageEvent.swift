import SluiceStreams

/// What a decoder and an assembler find together.
package enum MessageEvent: Sendable, Hashable {
  case message(AssembledMessage)
  /// A piece of a message that has reserved bits: an extension decodes it first.
  case encoded(DataPiece)
  case ping(Bytes)
  case pong(Bytes)
  case close(CloseCode?, reason: String)
}

extension FrameDecoder {
  /// The next message or control frame, or nil when more input is needed.
  ///
  /// The same as `next()` and `MessageAssembler.append(_:)` one after the other, but a message that comes in parts is
  /// unmasked straight to where it is gathered.
  /// - Throws: what the peer did wrong, or which limit of the assembler it passed; the same again at every later call.
  package mutating func next(
    assembling messages: inout MessageAssembler
  ) throws(WebSocketProtocolError) -> MessageEvent? {
    do {
      if let frame = nextWhole(limit: messages.maxMessageSize) {
        return .message(AssembledMessage(kind: frame.kind, bytes: try message(of: frame)))
      }
      if let event = try nextMessageEvent(&messages) { return event }
    } catch {
      messages.reset()
      fail(error)
      throw error
    }
    releaseInput()
    return nil
  }

  private mutating func nextMessageEvent(
    _ messages: inout MessageAssembler
  ) throws(WebSocketProtocolError) -> MessageEvent? {
    while true {
      switch state {
      case .header, .partialHeader:
        guard let header = try nextHeader() else { return nil }
        try begin(header)
      case .data(let frame) where frame.reserved.isEmpty:
        guard let part = nextPart(of: frame) else { return nil }
        if let message = try gather(part, of: frame, in: &messages) { return .message(message) }
      case .data, .control, .closed, .failed:
        switch try nextEvent() {
        case .data(let piece): return .encoded(piece)
        case .ping(let payload): return .ping(payload)
        case .pong(let payload): return .pong(payload)
        case .close(let code, let reason): return .close(code, reason: reason)
        case nil: return nil
        }
      }
    }
  }

  /// - Returns: the message, if the part ends it.
  private mutating func gather(
    _ part: DataFrame.Part, of frame: DataFrame, in messages: inout MessageAssembler
  ) throws(WebSocketProtocolError) -> AssembledMessage? {
    if frame.isFirst { messages.reset() }
    try messages.admit(part.range.count, remainingInFrame: part.remaining, startsFrame: frame.startsFrame)
    let start = messages.gathered.count
    Self.unmask(input, part.range, frame.maskingKey, to: &messages.gathered)
    if frame.isCheckedText {
      let isValid = messages.gathered.withMutableSpan(from: start) { text.consume($0.span) }
      guard isValid else { throw .invalidText }
      if part.endsMessage { try endText() }
    }
    pass(part, of: frame)
    return part.endsMessage ? messages.take(frame.kind) : nil
  }
}
