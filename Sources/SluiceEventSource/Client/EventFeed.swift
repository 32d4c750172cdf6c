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
    var inflating: Inflating?
    var parser: EventStreamParser
    var events = TransformOutput<ServerSentEvent>()
    /// What was read behind the head.
    var rest: Bytes?
    /// How the body has ended; what came before is read first.
    var end: Result<Void, any Error>?
    var isCancelled = false
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
    let inflating = inflater.map { Inflating($0, limit: parser.limits.maxInflatedBytes) }
    state = Mutex(State(body: body, inflating: inflating, parser: parser, rest: rest))
  }

  var lastEventID: String? { state.withLock { $0.parser.lastEventID } }
  var retry: Duration? { state.withLock { $0.parser.retry } }

  /// - Returns: nil when the body has ended as it should.
  /// - Throws: `CancellationError` when the task is cancelled, which changes nothing; anything else is the end of the connection.
  func read() async throws -> ServerSentEvent? {
    do {
      while true {
        switch try state.withLock({ try $0.next() }) {
        case .event(let event): return event
        case .inflated:
          // The loop has other streams, and looks after them before its timers.
          try await transport.loop.sleep(for: .zero)
        case .needsBytes(let rest):
          let bytes = if let rest { rest } else { try await readTransport() }
          try state.withLock { try $0.take(bytes) }
        case .end:
          transport.abort(StreamError.aborted)
          return nil
        }
      }
    } catch let error as CancellationError {
      throw error
    } catch {
      transport.abort(error)
      throw error
    }
  }

  private func readTransport() async throws -> Bytes? {
    guard let silenceTimeout else { return try await read(transport) }
    let transport = transport
    let timer = try await transport.loop.run {
      transport.loop.schedule(after: silenceTimeout) { transport.abort(EventSourceError.silence(silenceTimeout)) }
    }
    defer { transport.loop.perform { transport.loop.cancelTimer(timer) } }
    return try await read(transport)
  }

  private func read(_ transport: some ReadableStream<Bytes>) async throws -> Bytes? { try await transport.read() }

  func cancel(_ reason: (any Error)?) {
    state.withLock { $0.isCancelled = true }
    transport.abort(reason ?? StreamError.aborted)
  }
}

extension EventFeed.State {
  enum Next {
    case event(ServerSentEvent)
    /// A whole step of what was received was inflated, and gave no event.
    case inflated
    /// What was read already is to be taken, or else more is to be read.
    case needsBytes(Bytes?)
    case end
  }

  fileprivate mutating func next() throws -> Next {
    if isCancelled { throw StreamError.aborted }
    while true {
      if let event = events.popFirst() { return .event(event) }
      guard let inflated = try inflating?.step() else { break }
      let isWhole = inflated.count == Inflating.stepSize
      try parser.transform(inflated, into: &events)
      if !events.isEmpty { inflating?.gaveEvent() } else if isWhole { return .inflated }
    }
    guard let end else { return .needsBytes(rest.take()) }
    try end.get()
    return .end
  }

  /// Takes bytes of the connection, or its end.
  fileprivate mutating func take(_ bytes: Bytes?) throws {
    var parts = TransformOutput<Bytes>()
    do {
      try decode(bytes, into: &parts)
      if bytes == nil || parts.hasEnded { end = .success(()) }
    } catch {
      end = .failure(error)
    }
    while let part = parts.popFirst() {
      if inflating == nil { try parser.transform(part, into: &events) } else { inflating?.append(part) }
    }
  }

  private mutating func decode(_ bytes: Bytes?, into parts: inout TransformOutput<Bytes>) throws {
    switch body {
    case .chunked(var decoder):
      defer { body = .chunked(decoder) }
      if let bytes { try decoder.transform(bytes, into: &parts) } else { try decoder.finish(into: &parts) }
    case .length(var decoder):
      defer { body = .length(decoder) }
      if let bytes { try decoder.transform(bytes, into: &parts) } else { try decoder.finish(into: &parts) }
    case .untilEnd:
      if let bytes { parts.append(bytes) }
    }
  }
}
