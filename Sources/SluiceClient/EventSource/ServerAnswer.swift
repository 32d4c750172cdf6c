import HTTPTypes
import SluiceEventSource
import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceZlib

/// The head of a server's answer, and the connection behind it.
struct ServerAnswer: Sendable {
  let response: HTTPResponse
  let transport: Connect.ByteStream
  /// What was read behind the head.
  private let rest: Bytes

  /// Sends a request and reads the head of the answer. On the transport's loop.
  /// - Parameter limit: The time for that, and what an error calls it.
  static func read(
    from transport: some PolledDuplexStream<Bytes, Bytes>, _ request: Bytes,
    within limit: (time: Duration, named: Duration), limits: HeadLimits
  ) async throws -> ServerAnswer {
    let loop = transport.loop
    let timer = loop.schedule(after: limit.time) { transport.abort(EventSourceError.timeout(limit.named)) }
    defer { loop.cancelTimer(timer) }
    do { try await transport.write(request) } catch {
      transport.abort(error)
      throw ConnectError.during(.handshake, error)
    }
    return try await read(from: transport, limits: limits)
  }

  /// Reads the head of the answer. On the transport's loop.
  static func read(
    from transport: some PolledDuplexStream<Bytes, Bytes>, limits: HeadLimits
  ) async throws -> ServerAnswer {
    do {
      var limits = limits
      var reader = HeadReader(limits: limits)
      var rest = Bytes()
      while true {
        if rest.isEmpty {
          guard let chunk = try await transport.read() else { throw EventSourceError.endedEarly }
          rest = chunk
        }
        guard let (head, behind) = try reader.consume(rest) else {
          rest = Bytes()
          continue
        }
        let response = try ResponseHead(head, limits: limits).response
        guard response.status.kind == .informational else {
          return ServerAnswer(response: response, transport: transport, rest: behind)
        }
        // Interim ones (RFC 9110 §15.2) are passed over; all share the limit.
        limits.maxHeadBytes -= head.count
        reader = HeadReader(limits: limits)
        rest = behind
      }
    } catch {
      transport.abort(error)
      if let error = error as? HTTPHeadError { throw EventSourceError.malformedResponse(error) }
      throw ConnectError.during(.handshake, error)
    }
  }

  /// The answer of a proxy that was not satisfied with the credentials. On the transport's loop.
  func refusalOfProxy() async -> ConnectError {
    let bodyStart = await endAndTell()
    return .proxyRefused(status: response.status.code, headers: response.headerFields, bodyStart: bodyStart)
  }

  /// A status that is not what was asked for, and what the body says of it. On the transport's loop.
  func refusal() async -> HTTPRefusal {
    HTTPRefusal(status: response.status.code, headers: response.headerFields, bodyStart: await endAndTell())
  }

  /// The beginning of the body, which may say why; nothing more is read.
  private func endAndTell() async -> Bytes {
    defer { transport.abort(StreamError.aborted) }
    return await RefusalBody.start(of: response, behind: rest, from: transport)
  }

  /// The bytes of the body.
  /// - Throws: `EventSourceError` if it is not known where that ends.
  func content(of method: HTTPRequest.Method) throws -> any ReadableStream<Bytes> {
    // RFC 9112 §6.3: these have none, whatever their fields say.
    if method == .head || [204, 304].contains(response.status.code) { return SequenceStream([]) }
    let stream = PrefixedStream.stream(transport, behind: rest)
    return switch try body() {
    case .untilEnd: stream
    case .length(let decoder): decoder.isComplete ? SequenceStream([]) : Self.decoded(stream, decoder)
    case .chunked(let decoder): Self.decoded(stream, decoder)
    }
  }

  private static func decoded(
    _ stream: some ReadableStream<Bytes>, _ decoder: some BodyDecoder
  ) -> any ReadableStream<Bytes> {
    stream.pipe(through: decoder)
  }

  /// The events of the body. On the transport's loop.
  /// - Throws: `EventSourceError` if the response is not an event stream.
  func feed(_ options: EventSourceClientOptions, lastEventID: String?) async throws -> EventFeed {
    do {
      guard response.status.code == 200 else {
        throw EventSourceError.refused(
          status: response.status.code, headers: response.headerFields,
          bodyStart: await RefusalBody.start(of: response, behind: rest, from: transport))
      }
      guard response.headerFields.isEventStream else {
        throw EventSourceError.wrongContentType(response.headerFields[.contentType] ?? "")
      }
      let parser = EventStreamParser(limits: options.limits, lastEventID: lastEventID)
      return EventFeed(transport, rest: rest, try body(), try inflating(options.limits), parser)
    } catch {
      transport.abort(error)
      throw error
    }
  }

  /// Codings of a body that are undone: each takes 40 KiB.
  private static let maxCodings = 3

  /// What undoes the codings of the body, if it has any (RFC 9110 §8.4): the last one first.
  private func inflating(_ limits: EventStreamLimits) throws -> Inflating? {
    let values = response.headerFields[values: .contentEncoding]
    let codings = values.listElements.filter { !$0.equalsIgnoringCase("identity") }
    guard codings.count <= Self.maxCodings,
      codings.allSatisfy({ $0.equalsIgnoringCase("gzip") || $0.equalsIgnoringCase("x-gzip") })
    else {
      throw EventSourceError.unsupportedBody("Content-Encoding \(values.joined(separator: ", "))")
    }
    if codings.isEmpty { return nil }
    let inflaters = try codings.map { _ in
      guard let inflater = Inflater(windowBits: 15, format: .gzip) else { throw EventSourceError.outOfMemory }
      return inflater
    }
    return Inflating(inflaters, limit: limits.maxInflatedBytes)
  }

  /// How the body ends (RFC 9112 §6.3).
  private func body() throws -> EventFeed.Body {
    do {
      switch try BodyFraming(ofResponse: response.headerFields) {
      case .unspecified: return .untilEnd
      case .length(let length): return .length(LengthDecoder(length))
      case .chunked: return .chunked(ChunkedDecoder())
      case .coded(let codings, _): throw EventSourceError.unsupportedBody("Transfer-Encoding \(codings)")
      }
    } catch let error as HTTPHeadError {
      throw EventSourceError.malformedResponse(error)
    }
  }
}

extension HTTPFields {
  /// Whether `Content-Type` says so, with parameters or without: of several types, the last that is one counts (Fetch standard, "extract a MIME type").
  fileprivate var isEventStream: Bool {
    let types = self[values: .contentType].listElements.map { $0.prefix { $0 != UInt8(ascii: ";") }.trimmingBlanks }
    let last = types.last { type in
      guard let (kind, subtype) = type.divided(at: UInt8(ascii: "/")) else { return false }
      return kind.isToken && subtype.isToken
    }
    return last?.equalsIgnoringCase("text/event-stream") ?? false
  }
}
