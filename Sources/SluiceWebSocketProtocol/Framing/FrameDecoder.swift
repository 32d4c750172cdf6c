import SluiceStreams

/// Finds the frames in a stream of bytes, and hands payloads on as they arrive (RFC 6455 §5).
///
/// It does no I/O and holds nothing between inputs but at most 13 bytes of a header and 124 of a control frame; a data
/// frame of any length passes through in pieces. Feed it, then take events until there are none:
///
/// ```swift
/// var decoder = FrameDecoder(role: .client)
/// decoder.feed([0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f])
/// while let event = try decoder.next() {
///   if case .data(let piece) = event { print(piece.bytes.string) }   // Hello
/// }
/// ```
///
/// An unmasked payload is a slice of the input. A masked one is copied and unmasked in one pass; the input, which others
/// may hold, is never written to.
public struct FrameDecoder: ~Copyable, Sendable {
  // The small ones stand together: an idle connection holds all of this.
  public let parser: FrameHeaderParser
  @usableFromInline var fragmentation = FragmentationState.betweenMessages
  var text = UTF8Validator()
  /// Whether the input is still the slice that was fed.
  private var isInputUnsettled = false
  /// What was fed and not decoded yet, from `position` on.
  @usableFromInline package private(set) var input = Bytes()
  /// An index of `input`.
  @usableFromInline var position = 0
  @usableFromInline var state = State.header
  /// The first bytes of a header whose rest has not come, or what came of a control frame's payload. In memory of its own: who holds
  /// them does not hold the input that they came in.
  private var partial = BytesBuilder()
  /// Where pieces of one input are unmasked to, one behind the other.
  @usableFromInline var unmasked = BytesBuilder()

  @usableFromInline
  enum State: Sendable {
    /// A header comes next.
    case header
    /// The rest of one has to come.
    case partialHeader
    case data(DataFrame)
    case control(Opcode, remaining: Int, MaskingKey?)
    /// RFC 6455 §5.5.1: nothing is to be read after a Close.
    case closed
    indirect case failed(WebSocketProtocolError)
  }

  /// A data frame whose payload is not all there.
  @usableFromInline
  struct DataFrame: Sendable {
    var kind: MessageKind
    var reserved: ReservedBits
    var isFinal: Bool
    /// Whether the next piece is the message's first.
    var isFirst: Bool
    /// Whether the next piece is the frame's first.
    var startsFrame: Bool
    var maskingKey: MaskingKey?
    var remaining: Int

    /// Text that an extension encoded is checked when it is decoded.
    var isCheckedText: Bool { kind == .text && reserved.isEmpty }

    /// What lies in the input of it.
    struct Part {
      /// By the indices of `input`.
      var range: Range<Int>
      /// Bytes that are to come after it.
      var remaining: Int
      var endsMessage: Bool
    }
  }

  /// - Parameters:
  ///   - role: Which end reads.
  ///   - allowedReservedBits: Those that negotiated extensions set on the first frame of a message.
  public init(role: WebSocketRole, allowedReservedBits: ReservedBits = []) {
    parser = FrameHeaderParser(role: role, allowedReservedBits: allowedReservedBits)
  }

  /// Whether the stream may not end here without being truncated: a frame or a message is under way.
  public var isInsideMessage: Bool {
    switch (state, fragmentation) {
    case (.header, .betweenMessages), (.closed, _): false
    default: true
    }
  }

  /// Whether a Close came. What is fed after it is ignored.
  public var isClosed: Bool {
    if case .closed = state { true } else { false }
  }

  /// Gives the decoder the next bytes of the stream. Take all events before the next call; bytes that are still there
  /// are copied in front of the new ones. After a Close or an error they are ignored.
  public mutating func feed(_ bytes: consuming Bytes) {
    // An empty slice would hold its whole buffer.
    if bytes.isEmpty { return }
    switch state {
    case .closed, .failed: return
    case .header, .partialHeader, .data, .control: break
    }
    if position == input.endIndex {
      input = bytes
    } else {
      var joined = BytesBuilder(capacity: input.endIndex - position + bytes.count)
      joined.append(input[position...])
      joined.append(bytes)
      input = joined.take()
    }
    position = input.startIndex
    isInputUnsettled = true
  }

  /// The next event, or nil when more input is needed; then the decoder holds no input any more.
  /// - Throws: what the peer did wrong, and the same again at every later call.
  public mutating func next() throws(WebSocketProtocolError) -> FrameEvent? {
    do {
      if let frame = nextWhole(limit: .max) {
        return .data(DataPiece(kind: frame.kind, bytes: try message(of: frame)))
      }
      if let event = try nextEvent() { return event }
    } catch {
      fail(error)
      throw error
    }
    releaseInput()
    return nil
  }

  /// Stops decoding: `next()` throws the error from now on.
  package mutating func fail(_ error: WebSocketProtocolError) {
    state = .failed(error)
    partial = BytesBuilder()
    releaseInput()
  }
}

// MARK: frames

extension FrameDecoder {
  mutating func nextEvent() throws(WebSocketProtocolError) -> FrameEvent? {
    while true {
      switch state {
      case .header, .partialHeader:
        guard let header = try nextHeader() else { return nil }
        try begin(header)
      case .data(let frame):
        return try nextPiece(of: frame).map { .data($0) }
      case .control(let opcode, let remaining, let key):
        return try nextControl(opcode, remaining: remaining, key)
      case .closed: return nil
      case .failed(let error): throw error
      }
    }
  }

  mutating func nextHeader() throws(WebSocketProtocolError) -> FrameHeader? {
    if case .header = state {
      if let header = try parser.parse(input.span, at: position - input.startIndex) {
        position += header.encodedLength
        return header
      }
      if position == input.endIndex { return nil }
      state = .partialHeader
    }
    while position < input.endIndex {
      partial.append(input[position])
      position += 1
      if let header = try parser.parse(partial.span, at: 0) {
        partial = BytesBuilder()
        return header
      }
    }
    return nil
  }

  mutating func begin(_ header: FrameHeader) throws(WebSocketProtocolError) {
    // RFC 6455 §5.5: a control frame may come between the frames of a message.
    if header.opcode.isControl {
      // RFC 6455 §5.5.1: a code has two bytes, so one is wrong before it has come.
      if header.opcode == .close && header.payloadLength == 1 { throw .truncatedCloseCode }
      state = .control(header.opcode, remaining: header.payloadLength, header.maskingKey)
      return
    }
    let message = try fragmentation.accept(header)
    state = .data(
      DataFrame(
        kind: message.kind, reserved: message.reserved, isFinal: header.isFinal, isFirst: message.isFirst,
        startsFrame: true, maskingKey: header.maskingKey, remaining: header.payloadLength))
  }

  /// What there is of a data frame's payload. The frame's first piece may be empty: then it tells what will come.
  func nextPart(of frame: DataFrame) -> DataFrame.Part? {
    let count = min(frame.remaining, input.endIndex - position)
    if count == 0 && frame.remaining > 0 && !frame.startsFrame { return nil }
    let remaining = frame.remaining - count
    return DataFrame.Part(
      range: position..<position + count, remaining: remaining, endsMessage: frame.isFinal && remaining == 0)
  }

  /// Goes on behind a part of a data frame.
  mutating func pass(_ part: DataFrame.Part, of frame: DataFrame) {
    position = part.range.upperBound
    if part.remaining == 0 {
      state = .header
    } else {
      var rest = frame
      rest.isFirst = false
      rest.startsFrame = false
      rest.maskingKey = frame.maskingKey?.rotated(by: part.range.count)
      rest.remaining = part.remaining
      state = .data(rest)
    }
  }

  mutating func nextPiece(of frame: DataFrame) throws(WebSocketProtocolError) -> DataPiece? {
    guard let part = nextPart(of: frame) else { return nil }
    let bytes = unmask(part.range, frame.maskingKey)
    if frame.isCheckedText { try check(bytes.span, endsMessage: part.endsMessage) }
    pass(part, of: frame)
    return DataPiece(
      kind: frame.kind, reserved: frame.reserved, bytes: bytes, isFirst: frame.isFirst, isFinal: part.endsMessage,
      startsFrame: frame.startsFrame, remainingInFrame: part.remaining)
  }

  /// RFC 6455 §8.1.
  mutating func check(_ bytes: Span<UInt8>, endsMessage: Bool) throws(WebSocketProtocolError) {
    guard text.consume(bytes) else { throw .invalidText }
    if endsMessage { try endText() }
  }

  mutating func endText() throws(WebSocketProtocolError) {
    guard text.isComplete else { throw .truncatedText }
    text = UTF8Validator()
  }

  private mutating func nextControl(
    _ opcode: Opcode, remaining: Int, _ key: MaskingKey?
  ) throws(WebSocketProtocolError) -> FrameEvent? {
    let count = min(remaining, input.endIndex - position)
    Self.unmask(input, position..<position + count, key, to: &partial)
    position += count
    guard count == remaining else {
      state = .control(opcode, remaining: remaining - count, key?.rotated(by: count))
      return nil
    }
    state = .header
    let payload = partial.take()
    switch opcode {
    case .ping: return .ping(payload)
    case .pong: return .pong(payload)
    default: return try close(payload)
    }
  }

  /// RFC 6455 §5.5.1: nothing, or two bytes of code and a reason in UTF-8.
  private mutating func close(_ payload: Bytes) throws(WebSocketProtocolError) -> FrameEvent {
    var code: CloseCode?
    if payload.count >= 2 {
      let number = CloseCode(rawValue: UInt16(payload[0]) << 8 | UInt16(payload[1]))
      guard number.isAllowedOnWire else { throw .invalidCloseCode(number) }
      code = number
    }
    let reason = payload.dropFirst(2)
    guard UTF8Validator.isValid(reason.span) else { throw .invalidCloseReason }
    state = .closed
    return .close(code, reason: reason.string)
  }
}

// MARK: input

extension FrameDecoder {
  /// Whether fed bytes wait to be decoded. If none do, the decoder holds no input any more.
  @inlinable
  package mutating func hasInput() -> Bool {
    if position < input.endIndex { return true }
    if !input.isEmpty || unmasked.capacity > 0 { releaseInput() }
    return false
  }

  /// Moves the input that is left into memory of its own, if it is a small part of a larger buffer: it will be decoded later.
  package mutating func settleInput() {
    guard isInputUnsettled else { return }
    if position == input.endIndex { return releaseInput() }
    isInputUnsettled = false
    input = input[position...].compacted()
    position = input.startIndex
  }
}

// MARK: payload

extension FrameDecoder {
  private static let sharedBufferSize = 16 << 10

  /// A slice of the input; masked, a slice of a buffer that the payloads of one input share while they are small.
  mutating func unmask(_ range: Range<Int>, _ key: MaskingKey?) -> Bytes {
    guard let key else { return input[range] }
    if range.isEmpty { return Bytes() }
    if range.count > Self.sharedBufferSize / 4 {
      var builder = BytesBuilder(capacity: range.count)
      Self.unmask(input, range, key, to: &builder)
      return builder.take()
    }
    if unmasked.capacity - unmasked.count < range.count {
      let rest = input.endIndex - range.lowerBound
      unmasked = BytesBuilder(capacity: min(rest, Self.sharedBufferSize))
    }
    let start = unmasked.count
    Self.unmask(input, range, key, to: &unmasked)
    // What was lent is not written again: the builder goes on behind it.
    let lent = unmasked.lend()
    return lent[start..<lent.endIndex]
  }

  static func unmask(
    _ input: borrowing Bytes, _ range: Range<Int>, _ key: MaskingKey?, to output: inout BytesBuilder
  ) {
    let start = input.startIndex
    let span = input.span.extracting(range.lowerBound - start..<range.upperBound - start)
    if let key { output.append(span, masking: key) } else { output.append(span) }
  }

  @usableFromInline
  mutating func releaseInput() {
    isInputUnsettled = false
    input = Bytes()
    position = 0
    if unmasked.capacity > 0 { unmasked = BytesBuilder() }
  }
}
