import HTTPTypes
import SluiceEventSource
import SluiceHTTP
import SluiceIO
import SluiceStreams
import Synchronization

/// A request and its response (RFC 9112) as a stream of bytes in both directions: what is written is the body of the request, what is read that of the
/// response. The connection is its own, and ends with both.
///
/// What the connection and a malformed response fail with are the errors of event streams, which are read over the same protocol.
package final class HTTPExchange: DuplexStream, Sendable {
  package typealias Output = Bytes
  package typealias Input = Bytes

  /// The body of a request.
  package enum Content: Sendable {
    case none
    case bytes(Bytes)
    /// What is written, to its end. Where it is known how many bytes that are, they are sent as they are, and none more or less; otherwise in chunks.
    case stream(length: Int?)
  }

  package struct Options: Sendable {
    package var method = HTTPRequest.Method.get
    package var content = Content.none
    package var headers: Headers = [:]
    /// The way to the server. Its `timeout` is for each connection, not for the response.
    package var connect = ConnectOptions()
    /// Redirects that are followed; none behind a body that is written, which can't be written again.
    package var maxRedirects = 5
    package var headLimits = HeadLimits()
    /// How long the server may take nothing of what was written before the connection is given up.
    package var stallTimeout = Duration.seconds(30)
    package var didRespond: @Sendable (HTTPResponse) -> Void = { _ in }

    package init() {}
  }

  private let transport: Connect.ByteStream
  private let options: Options
  private let isForwarded: Bool
  private struct State {
    var body: (any ReadableStream<Bytes>)?
    /// The halves that are not over.
    var isReading = true
    var isWriting: Bool
    var isCancelled = false
    /// Of a body whose length was announced: what is missing, and the last bytes that were written. These wait until it is known that there are no more: a body that would
    /// be longer must not look whole.
    var missing = 0
    var held = Bytes()
  }
  private let state: Mutex<State>
  /// What was announced of the body that is written; nil for one in chunks.
  private let length: Int?

  private init(_ route: RequestRoute, _ options: Options, writes: Bool, length: Int? = nil) {
    self.length = length
    transport = route.stream
    isForwarded = route.forwarding != nil
    self.options = options
    state = Mutex(State(isWriting: writes, missing: length ?? 0))
  }

  deinit {
    let isOver = state.withLock { !$0.isReading && !$0.isWriting }
    if !isOver { transport.abort(StreamError.aborted) }
  }

  /// Sends a request. Unless its body is still to be written, the response has begun when this returns.
  /// - Parameter url: `http://`, `https://`, or `http+unix:SOCKET[:/PATH]`.
  /// - Throws: `URLError`, `HTTPFieldError`, before anything is sent; as `Connect.open`; `HTTPRefusal`, `EventSourceError`.
  package static func open(_ url: String, options: Options, on loop: UVLoop = .shared) async throws -> HTTPExchange {
    let target = try ClientTarget(url, schemes: ["http", "https"])
    let request = HTTPClientRequest(
      target.url, method: options.method, content: options.content, headers: options.headers)
    // What can't be sent is said before anything is.
    _ = try bytes(of: request, on: nil)
    return try await withTaskExecutorPreference(loop) {
      try await follow(request, unixSocket: target.unixSocket, options, on: loop)
    }
  }

  private static func follow(
    _ request: HTTPClientRequest, unixSocket: String?, _ options: Options, on loop: UVLoop
  ) async throws -> HTTPExchange {
    var request = request
    var way = options.connect
    way.unixSocket = unixSocket
    for _ in 0...Swift.max(options.maxRedirects, 0) {
      let url = request.url
      let origin = Origin(host: url.host, port: url.port, isSecure: url.isSecure)
      let route = try await Connect.openForRequests(to: origin, options: way, on: loop)
      if case .stream(let length) = request.content {
        let exchange = HTTPExchange(route, options, writes: true, length: length)
        try await route.stream.write(bytes(of: request, on: route))
        return exchange
      }
      let exchange = HTTPExchange(route, options, writes: false)
      try await route.stream.write(bytes(of: request, on: route))
      let answer = try await exchange.answer()
      guard options.maxRedirects > 0, let redirect = try Self.redirect(of: answer, from: url) else {
        try await exchange.begin(answer, of: request.method)
        return exchange
      }
      request.follow(redirect, status: answer.response.status.code)
      if !redirect.keepsOrigin { way.unixSocket = nil }
    }
    throw EventSourceError.redirect("too many redirects (limit \(options.maxRedirects))")
  }

  private static func redirect(
    of answer: ServerAnswer, from url: ConnectionURL
  ) throws(EventSourceError) -> Redirect? {
    do {
      return try Redirect(
        status: answer.response.status.code, headers: answer.response.headerFields, from: url,
        schemes: ["http": "http", "https": "https"])
    } catch { throw .redirect(error.reason) }
  }

  private static func bytes(of request: HTTPClientRequest, on route: RequestRoute?) throws -> Bytes {
    // One request per connection; a body that is compressed would be passed on so.
    try request.bytes(
      defaults: [("Accept", "*/*")], fields: [("Accept-Encoding", "identity"), ("Connection", "close")],
      reserved: ["accept-encoding"], on: route)
  }

  /// The head of the response, however long it takes. On the loop.
  private func answer() async throws -> ServerAnswer {
    let answer = try await ServerAnswer.read(from: transport, limits: options.headLimits)
    if isForwarded, answer.response.status.code == 407 { throw await answer.refusalOfProxy() }
    return answer
  }

  /// On the loop.
  private func begin(_ answer: ServerAnswer, of method: HTTPRequest.Method) async throws {
    options.didRespond(answer.response)
    guard answer.response.status.kind == .successful else { throw await answer.refusal() }
    let body = try answer.content(of: method)
    state.withLock { $0.body = body }
  }

  // MARK: reading

  package func read() async throws -> Bytes? {
    do {
      if let bytes = try await body()?.read() { return bytes }
      endReading()
      return nil
    } catch {
      let wasCancelled = state.withLock(\.isCancelled)
      endReading()
      if wasCancelled { return nil }
      throw Self.meaning(of: error)
    }
  }

  private func body() async throws -> (any ReadableStream<Bytes>)? {
    if let body = state.withLock(\.body) { return body }
    try await withTaskExecutorPreference(transport.loop) {
      try await begin(try await answer(), of: options.method)
    }
    return state.withLock(\.body)
  }

  private static func meaning(of error: any Error) -> any Error {
    switch error {
    case ChunkedBodyError.truncated, StreamError.truncated: EventSourceError.truncated
    default: error
    }
  }

  package func cancel(_ reason: (any Error)?) {
    let body = state.withLock { state in
      state.isCancelled = true
      return state.body
    }
    if let body { body.cancel(reason) } else { transport.cancel(reason) }
    endReading()
  }

  private func endReading() { end { $0.isReading = false } }
  private func endWriting() { end { $0.isWriting = false } }

  private func end(_ change: (inout State) -> Void) {
    let isOver = state.withLock { state in
      change(&state)
      return !state.isReading && !state.isWriting
    }
    guard isOver else { return }
    transport.cancel(nil)
    let transport = transport
    transport.loop.perform { transport.closeWhenFlushed { _ in } }
  }

  // MARK: writing

  /// - Throws: `StreamError.closed` when the server reads no more of it: what it has to say is read. `HTTPBodyLengthError` for more than was announced.
  package func write(_ bytes: Bytes) async throws {
    guard state.withLock(\.isWriting) else { throw StreamError.closed }
    if bytes.isEmpty { return }
    if let length {
      let last: Bytes? = state.withLock { state in
        guard bytes.count <= state.missing else { return nil }
        state.missing -= bytes.count
        defer { state.held = bytes }
        return state.held
      }
      guard let last else { throw cut(HTTPBodyLengthError(announced: length, given: nil)) }
      return try await send(last)
    }
    var chunk = BytesBuilder(capacity: bytes.count + 24)
    chunk.append(chunk: bytes.span)
    try await send(chunk.take())
  }

  /// The connection stays open for the response.
  /// - Throws: `HTTPBodyLengthError` if less was written than was announced; `EventSourceError.stalled` if the server takes nothing.
  package func close() async throws {
    guard state.withLock(\.isWriting) else { return }
    if let length {
      let (missing, last) = state.withLock { ($0.missing, $0.held) }
      guard missing == 0 else { throw cut(HTTPBodyLengthError(announced: length, given: length - missing)) }
      try await send(last)
    } else {
      var chunk = BytesBuilder(capacity: 8)
      chunk.appendLastChunk()
      try await send(chunk.take())
    }
    // What is behind this may end the process, or the connection.
    try await withTaskExecutorPreference(transport.loop) { try await drain() }
    endWriting()
  }

  /// Waits until the system has all that was written. On the loop.
  private nonisolated(nonsending) func drain() async throws {
    let queue = transport as? any QueueLimiting
    let limit = queue?.limitQueue(to: 1)
    defer { if let limit { _ = queue?.limitQueue(to: limit) } }
    try await transport.whilePeerTakes(
      within: options.stallTimeout, orAbort: EventSourceError.stalled(options.stallTimeout)
    ) {
      transport.flush()
      while try !transport.hasRoom() {
        let waiter = LoopWaiter()
        try transport.attachWriter(waiter)
        // There may be room again without a word of it.
        if (try? transport.hasRoom()) != false { waiter.wake() }
        let isCancelled = await waiter.waitOrCancel(on: transport.loop)
        transport.detachWriter()
        if isCancelled { throw CancellationError() }
      }
    }
  }

  /// A request that can't become whole must not look so.
  private func cut(_ error: HTTPBodyLengthError) -> HTTPBodyLengthError {
    abort(error)
    return error
  }

  private func send(_ bytes: Bytes) async throws {
    do { try await transport.write(bytes) } catch let error as IOError {
      guard ["EPIPE", "ECONNRESET"].contains(error.code) else { throw error }
      endWriting()
      throw StreamError.closed
    }
  }

  /// What was cut off must not look as if it were the whole.
  package func close(after failure: any Error) async throws { abort(failure) }

  package func abort(_ reason: any Error) {
    state.withLock { $0.isWriting = false }
    transport.abort(reason)
  }
}

/// A body that has not as many bytes as its request has said.
package struct HTTPBodyLengthError: Error, CustomStringConvertible {
  package let announced: Int
  /// nil for more than that.
  package let given: Int?

  package var description: String {
    "the body of the request has \(given.map { "\($0)" } ?? "more than \(announced)") bytes, but was \(announced) bytes long when the request began: it was cut off, and the server told so"
  }
}

/// A response whose status is not one of success, nor of a redirect that is followed.
package struct HTTPRefusal: Error, CustomStringConvertible {
  package let status: Int
  package let headers: HTTPFields
  /// The first bytes of the body, which may say why.
  package let bodyStart: Bytes

  package var description: String { "the server responded with status \(status)" }
}
