import SluiceStreams

/// What a load balancer says of a connection that it passes on, before anything else: the PROXY protocol, version 1 or 2, as HAProxy's
/// specification has it. To be believed only from addresses that are known to be load balancers: anybody can write it.
///
/// ```swift
/// guard let socket = try await listener.read() else { return }
/// let client = try await ProxyProtocol.read(from: socket)
/// ```
public enum ProxyProtocol {
  /// A header that was read.
  package struct Header: Equatable {
    /// Where the connection comes from; nil if the balancer made it itself (a health check), or does not know.
    package let source: IPAddress?
    /// Bytes on the wire.
    package let length: Int
  }

  private static let signature2: [UInt8] = [
    0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A,
  ]
  /// Of version 1, with its line end (§2.1).
  private static let maxLine = 107
  /// Of version 2, behind its first 16 bytes: addresses and extensions, which are passed over.
  private static let maxBody = 4096

  /// - Returns: nil when more bytes are needed.
  package static func parse(_ bytes: [UInt8]) throws(ProxyProtocolError) -> Header? {
    if bytes.starts(with: signature2.prefix(bytes.count)) { return try parse2(bytes) }
    let prefix = Array("PROXY ".utf8)
    guard bytes.starts(with: prefix.prefix(bytes.count)) else { throw .missing }
    return try parse1(bytes)
  }

  private static func parse1(_ bytes: [UInt8]) throws(ProxyProtocolError) -> Header? {
    guard let end = bytes.firstIndex(of: 0x0A) else {
      if bytes.count >= maxLine { throw .malformed("line longer than \(maxLine) bytes") }
      return nil
    }
    guard end < maxLine, bytes[..<end].last == 0x0D else { throw .malformed("line without CRLF") }
    let words = bytes[..<(end - 1)].split(separator: 0x20, omittingEmptySubsequences: false)
    let length = end + 1
    // "UNKNOWN" may be followed by anything.
    if words.count >= 2, words[1].equals("UNKNOWN") { return Header(source: nil, length: length) }
    let isIPv6 = words.count == 6 && words[1].equals("TCP6")
    guard words.count == 6, isIPv6 || words[1].equals("TCP4"), let source = address(words[2], isIPv6: isIPv6),
      address(words[3], isIPv6: isIPv6) != nil, words[4...].allSatisfy(isPort)
    else { throw .malformed("invalid protocol, address or port") }
    return Header(source: source, length: length)
  }

  private static func address(_ word: ArraySlice<UInt8>, isIPv6: Bool) -> IPAddress? {
    guard word.contains(UInt8(ascii: ":")) == isIPv6 else { return nil }
    return IPAddress(wire: word)
  }

  private static func isPort(_ word: ArraySlice<UInt8>) -> Bool {
    // §2.1: no leading zeros.
    word.decimal.map { $0 <= 65_535 } ?? false && (word.count == 1 || word.first != UInt8(ascii: "0"))
  }

  private static func parse2(_ bytes: [UInt8]) throws(ProxyProtocolError) -> Header? {
    guard bytes.count >= 16 else { return nil }
    guard bytes[12] >> 4 == 2 else { throw .malformed("version \(bytes[12] >> 4)") }
    let bodyLength = Int(bytes[14]) << 8 | Int(bytes[15])
    guard bodyLength <= maxBody else { throw .malformed("\(bodyLength) bytes (limit \(maxBody))") }
    guard bytes.count >= 16 + bodyLength else { return nil }
    let body = bytes[16..<(16 + bodyLength)]
    let length = 16 + bodyLength
    switch (bytes[12] & 0x0F, bytes[13] >> 4) {
    // LOCAL: the balancer's own connection.
    case (0, _): return Header(source: nil, length: length)
    case (1, 1):
      guard bodyLength >= 12 else { throw .malformed("truncated addresses") }
      return Header(source: IPAddress(v4: body.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }), length: length)
    case (1, 2):
      guard bodyLength >= 36 else { throw .malformed("truncated addresses") }
      return Header(source: IPAddress(v6: body.prefix(16)), length: length)
    // AF_UNSPEC, AF_UNIX.
    case (1, _): return Header(source: nil, length: length)
    default: throw .malformed("command \(bytes[12] & 0x0F)")
    }
  }

  /// Reads the header from a connection that was just accepted.
  /// - Parameter timeout: Time for it. Default: 10 seconds.
  /// - Returns: where the connection comes from; nil if the balancer does not say.
  /// - Throws: `ProxyProtocolError`, or what the connection failed with. The connection is cut then.
  public static func read(from socket: SocketStream, timeout: Duration = .seconds(10)) async throws -> IPAddress? {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        socket.loop.perform { read(from: socket, timeout: timeout) { continuation.resume(with: $0) } }
      }
    } onCancel: {
      socket.abort(CancellationError())
    }
  }

  /// The same in the loop's callbacks.
  package static func read(
    from socket: SocketStream, timeout: Duration, _ completion: @escaping (Result<IPAddress?, any Error>) -> Void
  ) {
    ProxyHeaderReading(socket, completion).start(within: timeout)
  }
}

/// What a load balancer did not say as it should.
public enum ProxyProtocolError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The connection does not begin with a header.
  case missing
  case malformed(String)
  case timeout(Duration)
  case endedEarly

  public var description: String {
    switch self {
    case .missing: "the connection does not begin with a PROXY header"
    case .malformed(let what): "malformed PROXY header: \(what)"
    case .timeout(let time): "no complete PROXY header within \(time)"
    case .endedEarly: "the connection ended before the PROXY header was complete"
    }
  }
}

/// A header on its way. Its socket keeps it alive.
private final class ProxyHeaderReading: SingleWaker, @unchecked Sendable {  // touched on its loop only
  private let socket: SocketStream
  private var completion: ((Result<IPAddress?, any Error>) -> Void)?
  private var received: [UInt8] = []
  private var timer: LoopTimer?

  init(_ socket: SocketStream, _ completion: @escaping (Result<IPAddress?, any Error>) -> Void) {
    self.socket = socket
    self.completion = completion
  }

  func start(within timeout: Duration) {
    timer = socket.loop.schedule(after: timeout) { self.finish(.failure(ProxyProtocolError.timeout(timeout))) }
    do { try socket.attachReader(self) } catch { return finish(.failure(error)) }
    wake()
  }

  func wake() {
    while completion != nil {
      do {
        switch try socket.poll() {
        case .pending: return
        case .end: throw ProxyProtocolError.endedEarly
        case .element(let bytes):
          received += bytes
          guard let header = try ProxyProtocol.parse(received) else { continue }
          socket.unread(Bytes(received[header.length...]))
          finish(.success(header.source))
        }
      } catch {
        finish(.failure(error))
      }
    }
  }

  private func finish(_ result: Result<IPAddress?, any Error>) {
    guard let completion else { return }
    self.completion = nil
    if let timer { socket.loop.cancelTimer(timer) }
    socket.detachReader()
    if case .failure(let error) = result { socket.abort(error) }
    completion(result)
  }
}
