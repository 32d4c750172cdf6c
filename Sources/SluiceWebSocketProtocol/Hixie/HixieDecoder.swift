import SluiceStreams

/// Finds the messages in a stream of bytes of hixie-75 or hixie-76, a server's side (draft 76 §5.3).
///
/// A text lies between 00 and FF. What begins with another byte from 80 on has a length and is passed over, but FF 00 is the
/// closing handshake of hixie-76. It gives the same events as `FrameDecoder`, in the same way.
package struct HixieDecoder: ~Copyable, Sendable {
  private let hasClosingHandshake: Bool
  /// Bytes of a frame that is passed over.
  private let maxSkippedBytes: Int
  private var state = State.betweenFrames

  private enum State {
    case betweenFrames
    case text(isFirst: Bool, UTF8Validator)
    /// Reading a length: seven bits in each byte, the last one below 80.
    case length(Int, byteCount: Int, mayClose: Bool)
    case skipping(Int)
    case closed
    case failed(WebSocketProtocolError)
  }

  package init(version: WebSocketVersion, maxSkippedBytes: Int) {
    hasClosingHandshake = version == .hixie76
    self.maxSkippedBytes = maxSkippedBytes
  }

  /// Whether the stream may not end here without being truncated.
  package var isInsideMessage: Bool {
    switch state {
    case .betweenFrames, .closed: false
    case .text, .length, .skipping, .failed: true
    }
  }

  /// Takes the next event from the front of the input.
  /// - Returns: nil when more input is needed. The input is empty then. After a Close what comes is dropped.
  /// - Throws: what the peer did wrong, and the same again at every later call.
  package mutating func next(in input: inout Bytes) throws(WebSocketProtocolError) -> FrameEvent<DataPiece>? {
    do {
      if let event = try nextEvent(&input) { return event }
    } catch {
      state = .failed(error)
      input = Bytes()
      throw error
    }
    input = Bytes()
    return nil
  }

  private mutating func nextEvent(_ input: inout Bytes) throws(WebSocketProtocolError) -> FrameEvent<DataPiece>? {
    while true {
      switch state {
      case .closed: return nil
      case .failed(let error): throw error
      case .text(let isFirst, let text):
        if input.isEmpty && !isFirst { return nil }
        return .data(try nextPiece(&input, isFirst: isFirst, text))
      case .betweenFrames:
        guard let type = input.popFirst() else { return nil }
        try begin(type)
      case .length(let length, let byteCount, let mayClose):
        guard let byte = input.popFirst() else { return nil }
        if mayClose && byte == 0 {
          state = .closed
          return .close(nil, reason: "")
        }
        try extend(length, byteCount: byteCount, by: byte)
      case .skipping(let count):
        let here = Swift.min(count, input.count)
        input = input.dropFirst(here)
        if here < count {
          state = .skipping(count - here)
          return nil
        }
        state = .betweenFrames
      }
    }
  }

  private mutating func begin(_ type: UInt8) throws(WebSocketProtocolError) {
    switch type {
    case 0x00: state = .text(isFirst: true, UTF8Validator())
    case 0x80...0xFE: state = .length(0, byteCount: 0, mayClose: false)
    case 0xFF: state = .length(0, byteCount: 0, mayClose: hasClosingHandshake)
    // No client ever sent these, whose end a server would have to search for.
    default: throw .reservedOpcode(type)
    }
  }

  private mutating func extend(
    _ length: Int, byteCount: Int, by byte: UInt8
  ) throws(WebSocketProtocolError) {
    let (shifted, overflows) = length.multipliedReportingOverflow(by: 128)
    let (longer, overflowsToo) = shifted.addingReportingOverflow(Int(byte & 0x7F))
    if overflows || overflowsToo || longer > maxSkippedBytes {
      throw .messageTooBig(limit: maxSkippedBytes, actual: overflows || overflowsToo ? .max : longer)
    }
    // A number of 63 bits has nine such bytes; more of them are only zeros in front.
    if byteCount == 9 { throw .nonMinimalLength(UInt64(longer), lengthBytes: byteCount + 1) }
    state = byte & 0x80 == 0 ? .skipping(longer) : .length(longer, byteCount: byteCount + 1, mayClose: false)
  }

  /// What there is of a text.
  private mutating func nextPiece(
    _ input: inout Bytes, isFirst: Bool, _ validator: UTF8Validator
  ) throws(WebSocketProtocolError) -> DataPiece {
    var text = validator
    let end = input.firstIndex(of: 0xFF)
    let bytes = input[..<(end ?? input.endIndex)]
    input = input[(end.map { $0 + 1 } ?? input.endIndex)...]
    guard text.consume(bytes.span) else { throw .invalidText }
    if end == nil {
      state = .text(isFirst: false, text)
    } else {
      guard text.isComplete else { throw .truncatedText }
      state = .betweenFrames
    }
    return DataPiece(kind: .text, bytes: bytes, isFirst: isFirst, isFinal: end != nil, startsFrame: isFirst)
  }
}
