import SluiceEventSource
import SluiceHTTP
import SluiceStreams

/// The events of one connection, made of its bytes as they are asked for: nothing is held but what was received and not read.
final class EventFeed: @unchecked Sendable {  // its client's lock guards it
  enum Body: Sendable {
    case chunked(ChunkedDecoder)
    case length(LengthDecoder)
    case untilEnd
  }

  enum Next {
    case event(ServerSentEvent)
    /// A whole step of what was received was inflated, and gave no event: others may want the loop.
    case pause
    /// What the connection gives next is to be taken.
    case needsBytes
    case end
  }

  let transport: Connect.ByteStream
  private var body: Body
  /// Of the body, and not decoded yet.
  private var received: Bytes
  private var decoded = TransformOutput<Bytes>()
  private var inflating: Inflating?
  private var text = Bytes()
  private var isTextWholeStep = false
  private var parser: EventStreamParser
  /// How the body has ended; what came before is read first.
  private var end: Result<Void, any Error>?

  /// Bytes that are decoded at once: each chunk of theirs takes a slice.
  private static let decodingStep = 4 << 10

  /// - Parameter rest: What was read behind the head.
  init(
    _ transport: Connect.ByteStream, rest: Bytes, _ body: Body, _ inflating: Inflating?, _ parser: EventStreamParser
  ) {
    self.transport = transport
    self.body = body
    self.inflating = inflating
    self.parser = parser
    received = rest
    // A body of no bytes ends without any.
    if case .length(let decoder) = body { end = decoder.isComplete ? .success(()) : nil }
  }

  var lastEventID: String? { parser.lastEventID }
  var retry: Duration? { parser.retry }

  /// - Throws: how the connection is lost, again and again.
  func next() throws -> Next {
    do { return try advance() } catch {
      text = Bytes()
      received = Bytes()
      decoded = TransformOutput()
      inflating = nil
      end = .failure(error)
      throw error
    }
  }

  /// The connection has failed; what came before is read first.
  func fail(_ error: any Error) {
    if end == nil { end = .failure(error) }
  }

  private func advance() throws -> Next {
    while true {
      if let event = try parser.next(from: &text) {
        inflating?.gaveEvent()
        return .event(event)
      }
      if isTextWholeStep {
        Reached.mark("events.inflatingPauses")
        isTextWholeStep = false
        return .pause
      }
      if let inflated = try inflating?.step() {
        text = inflated
        isTextWholeStep = inflated.count == Inflating.stepSize
      } else if let part = decoded.popFirst() {
        if inflating == nil { text = part } else { inflating?.append(part) }
      } else if let end {
        try end.get()
        return .end
      } else if !received.isEmpty {
        let part = received.prefix(Self.decodingStep)
        received = received.dropFirst(part.count)
        // What came before a chunk that is none is read first.
        do { try decode(part) } catch { end = .failure(error) }
      } else {
        return .needsBytes
      }
    }
  }

  /// Takes bytes of the connection, all before which were read, or its end.
  func take(_ bytes: Bytes?) {
    guard end == nil else { return }
    if let bytes {
      received = bytes
    } else {
      end = Result { try finish() }
    }
  }

  private func decode(_ bytes: Bytes) throws {
    switch body {
    case .chunked(var decoder):
      defer { body = .chunked(decoder) }
      try decoder.transform(bytes, into: &decoded)
    case .length(var decoder):
      defer { body = .length(decoder) }
      try decoder.transform(bytes, into: &decoded)
    case .untilEnd: decoded.append(bytes)
    }
    if decoded.hasEnded { end = .success(()) }
  }

  private func finish() throws {
    switch body {
    case .chunked, .length:
      Reached.mark("events.bodyTruncated")
      throw EventSourceError.truncated
    // Only gzip can tell whether this is all (RFC 1952 §2.3.1).
    case .untilEnd: if inflating?.isComplete == false { throw EventSourceError.truncated }
    }
  }
}
