import SluiceStreams
import SluiceWebSocketProtocol

/// The inside of a pipe from one WebSocket to another: whole frames are unmasked straight from the read buffer into the
/// frames to be written, and no message is made of them.
extension WebSocket {
  public func drainer<Sink: PolledWritableStream>(into sink: Sink) -> () -> PipeStep where Sink.Input == Message {
    if let target = sink as? WebSocket, coding.relaysFrames, target.coding.isPlain,
      options.observer == nil, target.options.observer == nil
    {
      // The method of an object is a closure without memory of its own.
      if target === self { return relayToSelf }
      return { self.relay(into: target) }
    }
    return { self.drainElements(into: sink) }
  }

  private func relayToSelf() -> PipeStep { relay(into: self) }

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
            switch relayFrames(into: target, &hasMoved) {
            case .all: continue
            case .pending:
              target.flushSoon()
              return .waiting(hasMoved: hasMoved)
            case .someOf: break
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

  /// What is small leaves with what the other sockets of this turn of the loop have.
  private func flushSoon() {
    // With nothing to send, this gives the memory back.
    if gathered.isEmpty || gathered.count > Self.smallOutput { return flush() }
    flushAtEndOfTurn()
  }

  private static let smallOutput = 1 << 10

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

  private enum RelayedFrames {
    /// What there was, or enough for now.
    case all
    /// The transport has nothing now.
    case pending
    /// Something else follows, that the decoder is to tell: another kind of frame, a part of one, or an error.
    case someOf
  }

  /// Moves small whole frames, until something else comes or the target has gathered enough.
  private func relayFrames(into target: WebSocket, _ hasMoved: inout Bool) -> RelayedFrames {
    while target.gathered.count < target.options.writeHighWatermark {
      if decoder.hasInput() {
        decoder.take { target.gather(wholeFramesOf: $0, from: self, &hasMoved) }
        if decoder.hasInput() { return .someOf }
        continue
      }
      // What is not left over need not pass the decoder.
      let isBetween = decoder.isBetweenMessages
      let received = receiveChunk { isBetween ? target.gather(wholeFramesOf: $0, from: self, &hasMoved) : 0 }
      switch received {
      case .pending: return .pending
      case .end: return .all
      case .used(let isDry):
        if isDry {
          note(.starved)
          return .pending
        }
      case .chunk(let chunk): feed(chunk)
      }
    }
    return .all
  }

  /// - Returns: how many bytes were frames that are gathered now. A text that is none stays: the decoder tells it with its next
  ///   event, as it does to every reader.
  private func gather(
    wholeFramesOf input: Span<UInt8>, from source: WebSocket, _ hasMoved: inout Bool
  ) -> Int {
    if gathered.capacity == 0 { gathered = context.takeScratch() }
    let limit = Swift.min(Self.gatherLimit, source.options.maxMessageSize)
    let count = Self.append(
      wholeFramesOf: input, isMasked: source.role == .server, limit: limit, to: &gathered,
      watermark: options.writeHighWatermark, keys: maskingKeys)
    if count > 0 {
      hasMoved = true
      source.note(.data)
      note(.data)
    }
    return count
  }

  private static func append(
    wholeFramesOf input: Span<UInt8>, isMasked: Bool, limit: Int, to output: inout BytesBuilder, watermark: Int,
    keys: MaskingKeys?
  ) -> Int {
    var position = 0
    while output.count < watermark, let frame = WholeFrame(input, at: position, isMasked: isMasked, limit: limit) {
      let start = output.count
      let key = keys?.next()
      output.append(FrameHeader(frame.kind.opcode, maskingKey: key, payloadLength: frame.payload.count))
      let body = output.count
      let payload = input.extracting(frame.payload)
      if let key = frame.maskingKey { output.append(payload, masking: key) } else { output.append(payload) }
      guard frame.kind == .binary || output.isUTF8(from: body) else {
        output.truncate(to: start)
        return position
      }
      if let key { output.mask(from: body, with: key) }
      position = frame.payload.upperBound
    }
    return position
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
