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
  func write(_ response: ServerResponse) async throws -> Int {
    var head = HeadWriter("HTTP/1.1 \(response.status) \(reasonPhrase(forStatus: response.status))")
    try head.append("Date", HTTPDate.now)
    if !keepsAlive { try head.append("Connection", "close") }
    try head.append(response.fields)
    let hasBody = response.status != 204 && response.status != 304
    switch response.body {
    case .bytes(let bytes):
      if hasBody { try head.append("Content-Length", String(bytes.count)) }
      let body = hasBody && !isHead ? bytes : Bytes()
      try await send(head.finish(body: body))
      return body.count
    case .stream(let stream, let length):
      let isChunked = hasBody && length == nil && isHTTP11
      if isChunked { try head.append("Transfer-Encoding", "chunked") }
      if hasBody, let length { try head.append("Content-Length", String(length)) }
      let head = head.finish()
      do {
        try await send(head)
        guard hasBody && !isHead else {
          stream.cancel(nil)
          return 0
        }
        return try await send(stream, length: length, isChunked: isChunked)
      } catch {
        stream.cancel(error)
        throw error
      }
    }
  }

  private func send(_ stream: any ReadableStream<Bytes>, length: Int?, isChunked: Bool) async throws -> Int {
    var given = 0
    while length.map({ given < $0 }) ?? true, let chunk = try await stream.read() {
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
    if let length, given < length { throw HTTPServerError.wrongLength(promised: length, given: given) }
    if isChunked {
      var last = BytesBuilder()
      last.appendLastChunk()
      try await send(last.take())
    }
    stream.cancel(nil)
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

/// What a handler can't answer.
public enum ServerResponseError: Error, Hashable, Sendable, CustomStringConvertible {
  case invalidStatus(Int)

  public var description: String {
    switch self {
    case .invalidStatus(let status): "\(status) is no status to answer with; 200 to 599 are"
    }
  }
}
