import SluiceStreams
import SluiceWebSocketProtocol

/// The inside of a pipe from one WebSocket to another: whole frames are unmasked straight from the read buffer into the
/// frames to be written, and no message is made of them.
extension WebSocket {
  public func drainer<Sink: PolledWritableStream>(into sink: Sink) -> () -> PipeStep where Sink.Input == Message {
    if let target = sink as? WebSocket, relaysFrames, target.isPlain,
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
        if incoming.isDiscarding || !isReading, isAtEnd {
          target.flush()
          return .ended(.sourceEnded)
        }
        while try target.hasRoom() {
          if incoming.ahead.isEmpty, !incoming.isDiscarding, isReading {
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
      Reached.mark("ws.relayTargetFailed")
      return .ended(isAtEnd ? .sourceEnded : .sinkFailed(error))
    }
  }

  /// What is small leaves with what the other sockets of this turn of the loop have.
  private func flushSoon() {
    // With nothing to send, this gives the memory back.
    if outgoing.gathered.isEmpty || outgoing.gathered.count > Self.smallOutput { return flush() }
    flushAtEndOfTurn()
  }

  private static let smallOutput = 1 << 10

  private var isAtEnd: Bool {
    if incoming.isDiscarding { return true }
    if isReading { return false }
    return machine.life.readingEnd?.error == nil && incoming.ahead.isEmpty
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
    while target.outgoing.gathered.count < target.options.writeHighWatermark {
      if !incoming.bytes.isEmpty {
        let count = target.gather(messagesOf: incoming.bytes.span, from: self, &hasMoved)
        incoming.bytes = count == incoming.bytes.count ? Bytes() : incoming.bytes.dropFirst(count)
        if !incoming.bytes.isEmpty { return .someOf }
        continue
      }
      switch receiveChunk(lendingTo: { target.gather(messagesOf: $0, from: self, &hasMoved) }) {
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

  /// - Returns: how many bytes were messages that are gathered now.
  private func gather(messagesOf input: Span<UInt8>, from source: WebSocket, _ hasMoved: inout Bool) -> Int {
    if outgoing.gathered.capacity == 0 { outgoing.gathered = context.takeScratch() }
    let count = source.machine.relay(
      input, to: &outgoing.gathered, limit: Swift.min(Self.gatherLimit, source.options.maxMessageSize),
      highWatermark: options.writeHighWatermark, keys: maskingKeys)
    if count > 0 {
      hasMoved = true
      source.note(.data)
      note(.data)
    }
    return count
  }
}
