import HTTPTypes
import SluiceHTTP
import SluiceStreams

/// Writes one response to a connection (RFC 9112 §4, §6). On the connection's loop.
struct ResponseWriter {
  private let transport: any PolledDuplexStream<Bytes, Bytes>
  private let isHead: Bool
  private let isHTTP11: Bool
  private let keepsAlive: Bool
  private let stallTimeout: Duration

  /// - Parameter isHead: Whether the request was HEAD, whose answer is a head alone.
  init(
    _ transport: any PolledDuplexStream<Bytes, Bytes>, isHead: Bool, isHTTP11: Bool, keepsAlive: Bool,
    stallTimeout: Duration
  ) {
    self.transport = transport
    self.isHead = isHead
    self.isHTTP11 = isHTTP11
    self.keepsAlive = keepsAlive
    self.stallTimeout = stallTimeout
  }

  private static let reserved: Set<String> = ["connection", "content-length", "date", "transfer-encoding"]

  /// - Throws: `HTTPFieldError` for a field that the server writes itself or that can't be sent, `ServerResponseError` for a status that ends no request.
  static func check(_ response: ServerResponse) throws {
    guard (200...599).contains(response.status) else { throw ServerResponseError.invalidStatus(response.status) }
    for field in response.fields {
      if reserved.contains(field.name.canonicalName) { throw HTTPFieldError.reservedName(field.name.rawName) }
      guard HTTPSyntax.isValue(field.value) else { throw HTTPFieldError.invalidValue(name: field.name.rawName) }
    }
  }

  /// - Returns: the bytes of the body.
  /// - Throws: `ResponseBodyFailure` if the body's stream failed, or what the connection failed with.
  func write(_ response: ServerResponse) async throws -> Int {
    do {
      let count = try await writeAll(response)
      response.body.cancel(nil)
      return count
    } catch {
      response.body.cancel((error as? ResponseBodyFailure)?.reason ?? error)
      throw error
    }
  }

  private func writeAll(_ response: ServerResponse) async throws -> Int {
    var head = HeadWriter("HTTP/1.1 \(response.status) \(reasonPhrase(forStatus: response.status))")
    try head.append("Date", HTTPDate.now)
    if !keepsAlive { try head.append("Connection", "close") }
    try head.append(response.fields)
    switch response.status {
    // RFC 9110 §15.3.5, §15.4.5: none, and no length.
    case 204, 304:
      try await send(head.finish())
      return 0
    // §15.3.6: none, which is to be said.
    case 205:
      try head.append("Content-Length", "0")
      try await send(head.finish())
      return 0
    default: break
    }
    switch response.body {
    case .bytes(let bytes):
      try head.append("Content-Length", String(bytes.count))
      let body = isHead ? Bytes() : bytes
      try await send(head.finish(body: body))
      return body.count
    case .stream(let stream, let length):
      let isChunked = length == nil && isHTTP11
      if isChunked { try head.append("Transfer-Encoding", "chunked") }
      if let length { try head.append("Content-Length", String(length)) }
      try await send(head.finish())
      return isHead ? 0 : try await send(stream, length: length, isChunked: isChunked)
    }
  }

  private func send(_ stream: any ReadableStream<Bytes>, length: Int?, isChunked: Bool) async throws -> Int {
    let isFramed = isChunked || length != nil
    func next() async throws -> Bytes? {
      do { return try await stream.read() } catch { throw ResponseBodyFailure(reason: error, isFramed: isFramed) }
    }
    var given = 0
    while length.map({ given < $0 }) ?? true, let chunk = try await next() {
      if chunk.isEmpty { continue }
      given += chunk.count
      if let length, given > length {
        // What a file has grown by since it was asked for its size.
        try await send(chunk.dropLast(given - length))
        break
      }
      if isChunked {
        var frame = BytesBuilder()
        frame.append(chunk: chunk.span)
        try await send(frame.take())
      } else {
        try await send(chunk)
      }
    }
    if let length, given < length {
      throw ResponseBodyFailure(
        reason: HTTPServerError.wrongLength(promised: length, given: given), isFramed: isFramed)
    }
    if isChunked {
      var last = BytesBuilder()
      last.appendLastChunk()
      try await send(last.take())
    }
    return length.map { Swift.min($0, given) } ?? given
  }

  /// Bytes that are written at once: of a large body, no more are encrypted and held than the client is about to take.
  private static let maxPiece = 64 << 10

  private func send(_ bytes: Bytes) async throws {
    var rest = bytes
    repeat {
      let piece = rest.prefix(Self.maxPiece)
      rest = rest.dropFirst(piece.count)
      try await transport.whilePeerTakes(within: stallTimeout, orAbort: HTTPServerError.stalled(stallTimeout)) {
        try await transport.write(piece)
      }
    } while !rest.isEmpty
  }
}

/// A body whose stream failed, or ended before it should, when its response was under way.
struct ResponseBodyFailure: Error {
  let reason: any Error
  /// Whether the client knows where the body should have ended.
  let isFramed: Bool
}

/// What a handler can't answer.
public enum ServerResponseError: Error, Hashable, Sendable, CustomStringConvertible {
  case invalidStatus(Int)

  public var description: String {
    switch self {
    case .invalidStatus(let status): "invalid response status \(status) (expected 200–599)"
    }
  }
}
