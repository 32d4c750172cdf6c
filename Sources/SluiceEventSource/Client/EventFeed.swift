import SluiceConnect
import SluiceHTTP
import SluiceStreams
import SluiceZlib
import Synchronization

/// The events of one connection.
final class EventFeed: Sendable {
  enum Body: Sendable {
    case chunked(ChunkedDecoder)
    case length(LengthDecoder)
    case untilEnd
  }

  fileprivate struct State {
    var body: Body
    let inflater: Inflater?
    /// What is to be inflated: no more is than the next events need.
    var compressed = TransformOutput<Bytes>()
    var parser: EventStreamParser
    var events = TransformOutput<ServerSentEvent>()
    var rest: Bytes?
    var hasEnded = false
  }
  private let transport: Connect.ByteStream
  private let silenceTimeout: Duration?
  private let state: Mutex<State>

  init(
    _ transport: Connect.ByteStream, rest: Bytes, _ body: Body, _ inflater: Inflater?,
    _ parser: EventStreamParser, silenceTimeout: Duration?
  ) {
    self.transport = transport
    self.silenceTimeout = silenceTimeout
    state = Mutex(State(body: body, inflater: inflater, parser: parser, rest: rest))
  }

  var lastEventID: String? { state.withLock { $0.parser.lastEventID } }
  var retry: Duration? { state.withLock { $0.parser.retry } }

  /// - Returns: nil when the body has ended as it should.
  func read() async throws -> ServerSentEvent? {
    do {
      while true {
        let (event, hasEnded, rest) = try state.withLock { state in
          (try state.nextEvent(), state.hasEnded, state.rest.take())
        }
        if let event { return event }
        if hasEnded {
          transport.abort(StreamError.aborted)
          return nil
        }
        let bytes = if let rest { rest } else { try await readTransport() }
        try state.withLock { try $0.take(bytes) }
      }
    } catch {
      transport.abort(error)
      throw error
    }
  }

  private func readTransport() async throws -> Bytes? {
    guard let silenceTimeout else { return try await read(transport) }
    let transport = transport
    let timer = try await transport.loop.run {
      transport.loop.schedule(after: silenceTimeout) { transport.abort(EventSourceError.timeout(silenceTimeout)) }
    }
    defer { transport.loop.perform { transport.loop.cancelTimer(timer) } }
    return try await read(transport)
  }

  private func read(_ transport: some ReadableStream<Bytes>) async throws -> Bytes? { try await transport.read() }

  func cancel(_ reason: (any Error)?) { transport.abort(reason ?? StreamError.aborted) }
}

extension EventFeed.State {
  fileprivate mutating func nextEvent() throws -> ServerSentEvent? {
    while true {
      if let event = events.popFirst() { return event }
      guard let inflater, let part = compressed.popFirst() else { return nil }
      try inflate(part, with: inflater)
    }
  }

  /// One step of a part; the rest stays.
  private mutating func inflate(_ part: Bytes, with inflater: Inflater) throws {
    var inflated = BytesBuilder(capacity: 64 << 10)
    guard let step = inflater.inflate(part.span, to: &inflated, limit: 64 << 10) else {
      throw EventSourceError.unsupportedBody("what is no gzip")
    }
    guard step.consumed > 0 || !inflated.isEmpty else { throw EventSourceError.unsupportedBody("what is no gzip") }
    let rest = part.dropFirst(step.consumed)
    if !rest.isEmpty || step.hasMore { compressed.prepend(rest) }
    try parser.transform(inflated.take(), into: &events)
  }

  /// Takes bytes of the connection, or its end.
  fileprivate mutating func take(_ bytes: Bytes?) throws {
    var parts = TransformOutput<Bytes>()
    switch body {
    case .chunked(var decoder):
      if let bytes { try decoder.transform(bytes, into: &parts) } else { try decoder.finish(into: &parts) }
      body = .chunked(decoder)
    case .length(var decoder):
      if let bytes { try decoder.transform(bytes, into: &parts) } else { try decoder.finish(into: &parts) }
      body = .length(decoder)
    case .untilEnd:
      if let bytes { parts.append(bytes) }
    }
    while let part = parts.popFirst() {
      if inflater == nil { try parser.transform(part, into: &events) } else { compressed.append(part) }
    }
    hasEnded = hasEnded || bytes == nil || parts.hasEnded
  }
}
