import HTTPTypes
import SluiceHTTP
import SluiceStreams

/// The body of a request, as it comes in: while nobody reads it, the client waits.
///
/// It may be read until its request is answered.
public final class RequestBody: ReadableStream, @unchecked Sendable {  // touched on its connection's loop only
  public typealias Output = Bytes

  private let transport: any PolledDuplexStream<Bytes, Bytes>
  private let maxSize: Int
  private let stallTimeout: Duration
  private var decoder: any BodyDecoder
  private var decoded = TransformOutput<Bytes>()
  private var size = 0
  /// What was read from the transport and not decoded yet; behind the end, what follows the body.
  private(set) var rest: Bytes
  /// The client sends the body when it is told to (RFC 9110 §10.1.1).
  private var awaitsContinue: Bool
  private var isReading = false
  /// What `read` throws from now on.
  private(set) var failure: (any Error)?

  /// - Parameter rest: What was read behind the head.
  /// - Throws: `RequestRejection` for a body that is too long, or that comes in a way that is not known here.
  init(
    of head: RequestHead, rest: Bytes, from transport: any PolledDuplexStream<Bytes, Bytes>,
    options: HTTPServerOptions
  ) throws(RequestRejection) {
    self.transport = transport
    self.rest = rest
    maxSize = options.maxBodySize
    stallTimeout = options.stallTimeout
    switch head.body {
    case .chunked: decoder = ChunkedDecoder(limits: options.headLimits)
    case .coded: throw RequestRejection(status: 501, reason: "unsupported transfer coding (expected chunked)")
    case .length(let length):
      guard length <= maxSize else { throw Self.tooLong(maxSize) }
      decoder = LengthDecoder(length)
    case .unspecified: decoder = LengthDecoder(0)
    }
    awaitsContinue = head.isHTTP11 && head.request.headerFields[values: .expect].list(contains: "100-continue")
    // A body without bytes is over before it begins.
    if !head.hasBody { decoded.end() }
  }

  /// That of a request without one.
  init(noneOn transport: any PolledDuplexStream<Bytes, Bytes>) {
    self.transport = transport
    rest = Bytes()
    maxSize = 0
    stallTimeout = .zero
    decoder = LengthDecoder(0)
    awaitsContinue = false
    decoded.end()
  }

  private static func tooLong(_ limit: Int) -> RequestRejection {
    RequestRejection(status: 413, reason: "request body too large (limit \(limit) bytes)")
  }

  /// Whether all of it was taken from the connection, so that the next request follows.
  var isComplete: Bool { decoded.hasEnded && failure == nil }

  /// - Throws: `RequestRejection` beyond `HTTPServerOptions.maxBodySize` or for malformed chunks, which is to be passed on;
  ///   `StreamError.truncated`, or what the connection failed with; `StreamError.closed` when the request was answered.
  public func read() async throws -> Bytes? {
    try await withTaskExecutorPreference(transport.loop) { try await next() }
  }

  private func next() async throws -> Bytes? {
    if isReading { throw StreamError.concurrentRead }
    isReading = true
    defer { isReading = false }
    while true {
      if let failure { throw failure }
      if let chunk = decoded.popFirst() {
        size += chunk.count
        if size <= maxSize { return chunk }
        failure = Self.tooLong(maxSize)
        continue
      }
      if decoded.hasEnded { return nil }
      do { try decode(try await receive()) } catch is CancellationError { throw CancellationError() } catch {
        failure = (error as? ChunkedBodyError).map { RequestRejection(status: 400, reason: "\($0)") } ?? error
      }
    }
  }

  private func receive() async throws -> Bytes? {
    if awaitsContinue {
      awaitsContinue = false
      Reached.mark("http.continue")
      if rest.isEmpty { try await transport.write("HTTP/1.1 100 Continue\r\n\r\n") }
    }
    if !rest.isEmpty {
      defer { rest = Bytes() }
      return rest
    }
    return try await transport.within(stallTimeout, orAbort: HTTPServerError.stalled(stallTimeout)) {
      try await transport.read()
    }
  }

  private func decode(_ bytes: Bytes?) throws {
    guard let bytes else { return try decoder.finish(into: &decoded) }
    try decoder.transform(bytes, into: &decoded)
    rest = decoder.rest
  }

  /// What is still to come is of no interest. The connection can't serve another request then.
  public func cancel(_ reason: (any Error)?) {
    transport.loop.perform { self.failure = self.failure ?? reason ?? StreamError.closed }
  }
}
