import SluiceStreams

/// Finds the frames in a stream of bytes, unmasks and checks what they carry, and hands it on as it arrives (RFC 6455 §5).
///
/// It does no I/O and holds nothing between inputs but at most 13 bytes of a header and 124 of a control frame; a data
/// frame of any length passes through in pieces.
///
/// ```swift
/// var decoder = FrameDecoder(role: .client)
/// var input: Bytes = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]
/// while let event = try decoder.next(in: &input) {
///   if case .data(let piece) = event { print(piece.bytes.string) }   // Hello
/// }
/// ```
///
/// Where payloads go is for a `MessageSink` to say: they become messages, or pieces, or are written straight into the frames for another
/// connection. All of them share this one loop.
public struct FrameDecoder: ~Copyable, Sendable {
  // The small ones stand together: an idle connection holds all of this.
  public let parser: FrameHeaderParser
  private var fragmentation = FragmentationState.betweenMessages
  private var text = UTF8Validator()
  private var state = State.header
  /// The first bytes of a header whose rest has not come, or what came of a control frame's payload. In memory of its own: who holds
  /// them does not hold the input that they came in.
  private var partial = BytesBuilder()

  private enum State: Sendable {
    /// A header comes next.
    case header
    /// The rest of one has to come.
    case partialHeader
    case data(DataFrame)
    case control(Opcode, remaining: Int, MaskingKey?)
    /// Its payload is in `partial`, for `takeControl`.
    case wholeControl(Opcode)
    /// RFC 6455 §5.5.1: nothing is to be read after a Close.
    case closed
    indirect case failed(WebSocketProtocolError)
  }

  /// A data frame whose payload is not all there.
  private struct DataFrame: Sendable {
    var kind: MessageKind
    var reserved: ReservedBits
    var isFinal: Bool
    /// Whether the next part is the message's first.
    var isFirst: Bool
    /// Whether the next part is the frame's first.
    var startsFrame: Bool
    var maskingKey: MaskingKey?
    var remaining: Int
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

  /// Whether a message, or a control frame, begins with the next byte.
  package var isBetweenMessages: Bool {
    guard case .header = state, case .betweenMessages = fragmentation else { return false }
    return true
  }

  /// Whether a Close came. What comes after it is ignored.
  public var isClosed: Bool {
    if case .closed = state { true } else { false }
  }

  /// Takes the next event from the front of the input.
  ///
  /// An unmasked payload is a slice of the input. A masked one is copied and unmasked in one pass; the input, which others
  /// may hold, is never written to.
  /// - Returns: nil when more input is needed. The input is empty then. After a Close what comes is dropped.
  /// - Throws: what the peer did wrong, and the same again at every later call.
  public mutating func next(in input: inout Bytes) throws(WebSocketProtocolError) -> FrameEvent<DataPiece>? {
    var piece: DataPiece?
    switch try nextPiece(in: &input, &piece) {
    case .nothing: return nil
    case .element: return piece.map { .data($0) }
    case .control: return FrameEvent(try takeControl())
    }
  }

  /// Stops decoding: the error is thrown from now on.
  package mutating func fail(_ error: WebSocketProtocolError) {
    state = .failed(error)
    partial = BytesBuilder()
  }
}

// MARK: the loop

/// Where a decoder has stopped.
package enum DecoderStop {
  /// There is no more to be found in this input, or no room for it.
  case nothing
  /// The sink has given an element.
  case element
  /// A control frame is there, which `takeControl` gives.
  case control
}

extension FrameDecoder {
  /// Decodes until the sink gives an element, a control frame is whole, the sink has no room, or the input is used up.
  /// - Parameters:
  ///   - position: Where in the input to begin, 0 to `input.count`; where to go on, afterwards.
  ///   - chunk: What `input` is the content of, if slices of it may be kept; nil where it is only lent.
  /// - Throws: what the peer did wrong, or which limit of the sink it passed; the same again at every later call.
  @inline(__always)
  mutating func decode<Sink: MessageSink & ~Copyable>(
    _ input: Span<UInt8>, from position: inout Int, of chunk: Bytes?, into sink: inout Sink,
    _ element: inout Sink.Element?
  ) throws(WebSocketProtocolError) -> DecoderStop {
    let isMasked = parser.role == .server
    do {
      while sink.hasRoom {
        // Most messages are a single frame that is there as a whole.
        if isBetweenMessages,
          let part = DataPart(wholeFrameOf: input, at: position, isMasked: isMasked, limit: sink.wholeFrameLimit)
        {
          element = try put(part, of: input, chunk, into: &sink)
          position = part.payload.upperBound
          if element != nil { return .element }
          continue
        }
        guard Sink.takesParts else { break }
        if let stop = try decodePart(of: input, &position, chunk, into: &sink, &element) { return stop }
      }
      return .nothing
    } catch {
      fail(error)
      throw error
    }
  }

  /// The way of everything else, by one step. Apart, so that the way of most is short.
  /// - Returns: nil to go on.
  @inline(never)
  private mutating func decodePart<Sink: MessageSink & ~Copyable>(
    of input: Span<UInt8>, _ position: inout Int, _ chunk: Bytes?, into sink: inout Sink,
    _ element: inout Sink.Element?
  ) throws(WebSocketProtocolError) -> DecoderStop? {
    switch try step(input, &position) {
    case .needsInput: return .nothing
    case .control: return .control
    case .began: return nil
    case .part(let part):
      element = try put(part, of: input, chunk, into: &sink)
      return element == nil ? nil : .element
    }
  }

  /// The same on bytes that may be kept, from whose front it takes what is decoded.
  @inline(__always)
  mutating func next<Sink: MessageSink & ~Copyable>(
    in input: inout Bytes, into sink: inout Sink, _ element: inout Sink.Element?
  ) throws(WebSocketProtocolError) -> DecoderStop {
    // No slice is made of what is masked: the input need not be counted for it.
    let chunk = parser.role == .server ? nil : input
    var position = 0
    do {
      let stop = try decode(input.span, from: &position, of: chunk, into: &sink, &element)
      // An empty slice would hold its whole buffer.
      if position == input.count { input = Bytes() } else { input.trimFirst(position) }
      return stop
    } catch {
      input = Bytes()
      throw error
    }
  }

  /// Gives a part of a message to the sink, unmasked and, if it is text, checked.
  @inline(__always)
  mutating func put<Sink: MessageSink & ~Copyable>(
    _ part: DataPart, of input: Span<UInt8>, _ chunk: Bytes?, into sink: inout Sink
  ) throws(WebSocketProtocolError) -> Sink.Element? {
    guard let mark = try sink.begin(part, canSlice: part.maskingKey == nil && chunk != nil) else {
      let start = chunk?.startIndex ?? 0
      let slice = chunk?[start + part.payload.lowerBound..<start + part.payload.upperBound] ?? Bytes()
      guard !part.isCheckedText || isText(slice.span, endsMessage: part.isFinal) else { throw textError }
      return sink.end(part, slice: slice)
    }
    let isValid = sink.withMemory { memory in
      let start = memory.count
      let payload = input.extracting(part.payload)
      if let key = part.maskingKey { memory.append(payload, masking: key) } else { memory.append(payload) }
      return !part.isCheckedText || memory.withMutableSpan(from: start) { isText($0.span, endsMessage: part.isFinal) }
    }
    guard isValid else {
      sink.drop(mark)
      throw textError
    }
    return sink.end(part, mark)
  }

  /// RFC 6455 §8.1.
  @inline(__always)
  private mutating func isText(_ bytes: Span<UInt8>, endsMessage: Bool) -> Bool {
    text.consume(bytes) && (!endsMessage || text.isComplete)
  }

  /// Forgets what of a text was looked at that is to be looked at again from its beginning.
  mutating func forgetText() { text = UTF8Validator() }

  private var textError: WebSocketProtocolError { text.isRejected ? .invalidText : .truncatedText }

  private enum Step {
    case needsInput
    case began
    case part(DataPart)
    case control
  }

  /// Goes on by a header, by what there is of a payload, or by a control frame.
  private mutating func step(
    _ input: Span<UInt8>, _ position: inout Int
  ) throws(WebSocketProtocolError) -> Step {
    switch state {
    case .header, .partialHeader:
      guard let header = try nextHeader(input, &position) else { return .needsInput }
      try begin(header)
      return .began
    case .data(let frame):
      guard let part = nextPart(of: frame, input.count - position, &position) else { return .needsInput }
      return .part(part)
    case .control(let opcode, let remaining, let key):
      let count = min(remaining, input.count - position)
      let payload = input.extracting(position..<position + count)
      if let key { partial.append(payload, masking: key) } else { partial.append(payload) }
      position += count
      guard count == remaining else {
        state = .control(opcode, remaining: remaining - count, key?.rotated(by: count))
        return .needsInput
      }
      state = .wholeControl(opcode)
      return .control
    case .wholeControl: return .control
    case .closed:
      position = input.count
      return .needsInput
    case .failed(let error): throw error
    }
  }

  private mutating func nextHeader(
    _ input: Span<UInt8>, _ position: inout Int
  ) throws(WebSocketProtocolError) -> FrameHeader? {
    if case .header = state {
      if let header = try parser.parse(input, at: position) {
        position += header.encodedLength
        return header
      }
      if position == input.count { return nil }
      state = .partialHeader
    }
    while position < input.count {
      partial.append(input[position])
      position += 1
      if let header = try parser.parse(partial.span, at: 0) {
        partial = BytesBuilder()
        return header
      }
    }
    return nil
  }

  private mutating func begin(_ header: FrameHeader) throws(WebSocketProtocolError) {
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

  /// What there is of a data frame's payload, behind which the decoder goes on. The frame's first part may be empty: then it tells what will come.
  private mutating func nextPart(of frame: DataFrame, _ available: Int, _ position: inout Int) -> DataPart? {
    let count = min(frame.remaining, available)
    if count == 0 && frame.remaining > 0 && !frame.startsFrame { return nil }
    let remaining = frame.remaining - count
    let part = DataPart(
      kind: frame.kind, reserved: frame.reserved, maskingKey: frame.maskingKey, payload: position..<position + count,
      isFirst: frame.isFirst, isFinal: frame.isFinal && remaining == 0, startsFrame: frame.startsFrame,
      remainingInFrame: remaining)
    position += count
    if remaining == 0 {
      state = .header
    } else {
      var rest = frame
      rest.isFirst = false
      rest.startsFrame = false
      rest.maskingKey = frame.maskingKey?.rotated(by: count)
      rest.remaining = remaining
      state = .data(rest)
    }
    return part
  }

  /// The control frame at which the decoder has stopped.
  /// - Throws: what is wrong with a Close.
  package mutating func takeControl() throws(WebSocketProtocolError) -> ControlFrame {
    guard case .wholeControl(let opcode) = state else { return .pong(Bytes()) }
    state = .header
    let payload = partial.take()
    switch opcode {
    case .ping: return .ping(payload)
    case .pong: return .pong(payload)
    default: break
    }
    do { return try close(payload) } catch {
      fail(error)
      throw error
    }
  }

  private mutating func close(_ payload: Bytes) throws(WebSocketProtocolError) -> ControlFrame {
    // RFC 6455 §5.5.1: nothing, or two bytes of code and a reason in UTF-8.
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
