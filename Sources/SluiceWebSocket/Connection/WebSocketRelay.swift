import SluiceStreams
import SluiceWebSocketProtocol

/// The inside of a pipe from one WebSocket to another: whole frames are unmasked straight from the read buffer into the
/// frames to be written, and no message is made of them.
extension WebSocket {
  public func drainer<Sink: PolledWritableStream>(into sink: Sink) -> () -> PipeStep where Sink.Input == Message {
    if let target = sink as? WebSocket, coding.relaysFrames, target.coding.isPlain,
      options.observer == nil, target.options.observer == nil
    {
      return { self.relay(into: target) }
    }
    return { self.drainElements(into: sink) }
  }

  private func relay(into target: WebSocket) -> PipeStep {
    var hasMoved = false
    do {
      repeat {
        // An end is an end even if the target is closed: it may be this very socket, that has answered the Close.
        if isAtEnd {
          target.flush()
          return .ended(.sourceEnded)
        }
        while try target.hasRoom() {
          if ahead.isEmpty, !isDiscarding, case .open = readState {
            if !relayWholeFrames(into: target, &hasMoved) {
              if receive() { continue }
              target.flush()
              return .waiting(hasMoved: hasMoved)
            }
          }
          switch try relayOne(into: target) {
          case .element: hasMoved = true
          case .pending:
            target.flush()
            return .waiting(hasMoved: hasMoved)
          case .end:
            target.flush()
            return .ended(.sourceEnded)
          case .failed(let error):
            target.flush()
            return .ended(.sourceFailed(error))
          }
        }
        target.flush()
      } while try target.hasRoom()
      return .waiting(hasMoved: hasMoved)
    } catch {
      return .ended(isAtEnd ? .sourceEnded : .sinkFailed(error))
    }
  }

  private var isAtEnd: Bool {
    if isDiscarding { return true }
    if case .closed = readState { return ahead.isEmpty }
    return false
  }

  private enum Relayed {
    case element, pending, end
    case failed(any Error)
  }

  /// Moves one message in the ordinary way.
  /// - Throws: what the target failed with.
  private func relayOne(into target: WebSocket) throws -> Relayed {
    let next: Polled<Message>
    do { next = try poll() } catch { return .failed(error) }
    switch next {
    case .element(let message):
      try target.push(message)
      return .element
    case .pending: return .pending
    case .end: return .end
    }
  }

  /// Moves the small whole frames that the decoder has, until something else comes or the target has gathered enough.
  /// - Returns: whether the decoder has something else to tell: another kind of event, or an error.
  private func relayWholeFrames(into target: WebSocket, _ hasMoved: inout Bool) -> Bool {
    guard decoder.hasInput() else { return false }
    note(.data)
    target.note(.data)
    var output = BytesBuilder()
    target.borrowGathered(&output)
    let start = output.count
    let isValid = Self.relayWholeFrames(
      from: &decoder, to: &output, limit: Swift.min(Self.gatherLimit, options.maxMessageSize),
      watermark: target.options.writeHighWatermark, keys: target.maskingKeys)
    if output.count > start { hasMoved = true }
    target.returnGathered(&output)
    return !isValid || decoder.hasInput()
  }

  /// - Returns: false if a text was none; the decoder then tells it with its next event, as it does to every reader.
  private static func relayWholeFrames(
    from decoder: inout FrameDecoder, to output: inout BytesBuilder, limit: Int, watermark: Int, keys: MaskingKeys?
  ) -> Bool {
    while output.count < watermark, let frame = decoder.nextWhole(limit: limit) {
      let start = output.count
      let key = keys?.next()
      output.append(FrameHeader(frame.kind.opcode, maskingKey: key, payloadLength: frame.payload.count))
      let body = output.count
      guard appendPayload(of: frame, from: decoder, to: &output) else {
        output.truncate(to: start)
        decoder.fail(.invalidText)
        return false
      }
      if let key { output.mask(from: body, with: key) }
    }
    return true
  }

  private static func appendPayload(
    of frame: WholeFrame, from decoder: borrowing FrameDecoder, to output: inout BytesBuilder
  ) -> Bool {
    let payload = decoder.payload(of: frame)
    let start = output.count
    if let key = frame.maskingKey { output.append(payload, masking: key) } else { output.append(payload) }
    return frame.kind == .binary || output.isUTF8(from: start)
  }

  /// Lends out what is gathered, so that a loop over many frames works on a value of its own.
  private func borrowGathered(_ output: inout BytesBuilder) {
    if gathered.capacity == 0 { gathered = loop.scratch.take() }
    swap(&output, &gathered)
  }

  private func returnGathered(_ output: inout BytesBuilder) {
    swap(&output, &gathered)
  }
}

extension BytesBuilder {
  /// Whether the bytes from `start` on are one valid text.
  fileprivate mutating func isUTF8(from start: Int) -> Bool {
    withMutableSpan(from: start) { UTF8Validator.isValid($0.span) }
  }

  fileprivate mutating func mask(from start: Int, with key: MaskingKey) {
    withMutableSpan(from: start) { key.apply(to: &$0) }
  }
}
