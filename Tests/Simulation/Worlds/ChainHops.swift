import HTTPTypes
import Logging
import Sluice
import SluiceClient
import SluiceEventSource
import SluiceHTTP
import SluiceServer
import SluiceStreams
import SluiceTLS
import SluiceTesting
import SluiceWebSocket
import SluiceWebSocketProtocol

/// Both ends of a hop, and what carries it.
struct Connection: Sendable {
  let near: any DuplexStream<Bytes, Bytes>
  let far: any DuplexStream<Bytes, Bytes>
  /// The ends of the network's connection, if there is one.
  let wire: (near: SimulatedStream, far: SimulatedStream)?
}

extension Chain.Hop {
  func open(on stage: Stage) async throws -> Connection {
    guard let wire else { return memory(on: stage.loop) }
    let (near, far) = stage.connection(wire)
    let ends = try await open(near, far, stage)
    return Connection(near: ends.near, far: ends.far, wire: (near, far))
  }

  private func memory(on loop: SimulatedLoop) -> Connection {
    switch self {
    case .memoryOnLoop(let mark):
      let (near, far) = MemoryStream<Bytes>.pair(highWatermark: mark)
      return Connection(near: near.polled(on: loop), far: far.polled(on: loop), wire: nil)
    case .memory(let mark):
      let (near, far) = MemoryStream<Bytes>.pair(highWatermark: mark)
      return Connection(near: near, far: far, wire: nil)
    default:
      let (near, far) = MemoryStream<Bytes>.pair()
      return Connection(near: near, far: far, wire: nil)
    }
  }

  private typealias Ends = (near: any DuplexStream<Bytes, Bytes>, far: any DuplexStream<Bytes, Bytes>)

  private func open(_ near: SimulatedStream, _ far: SimulatedStream, _ stage: Stage) async throws -> Ends {
    switch self {
    case .memory, .memoryOnLoop, .tcp: return (near, far)
    case .tls: return try await Self.secure(near, far, stage)
    case .tlsInTLS:
      let (near, far) = try await Self.secure(near, far, stage)
      return try await Self.secure(near, far, stage)
    case .webSocket(_, let isCompressed):
      var server = WebSocketHandshakeOptions()
      var client = WebSocketRequestOptions()
      if isCompressed {
        server.extensions = [PermessageDeflate()]
        client.extensions = [PermessageDeflate()]
      }
      async let accepted = WebSocket.accept(over: far, options: server)
      let connected = try await WebSocket.connect("ws://test/", over: near, options: client)
      return (connected.payloads, try await accepted.payloads)
    case .framed:
      async let accepted = far.pipe(through: WebSocket.Framing(.server))
      return (try await near.pipe(through: WebSocket.Framing(.client)).payloads, try await accepted.payloads)
    case .hybi(_, let version):
      async let accepted = WebSocket.accept(over: far)
      try await near.write(
        Bytes(
          "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: \(version)\r\n"
            + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Origin: http://test\r\n\r\n"))
      let rest = try await near.readHead()
      return (
        try await near.pipe(through: WebSocket.Framing(.client), head: rest).payloads, try await accepted.payloads
      )
    case .hixie(_, let hasClosingHandshake):
      async let accepted = WebSocket.accept(over: far)
      // The example of draft 76 §1.2.
      let keys = "Sec-WebSocket-Key1: 4 @1  46546xW%0l 1 5\r\nSec-WebSocket-Key2: 12998 5 Y3 1  .P00\r\n"
      try await near.write(
        Bytes(
          "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nOrigin: http://test\r\n"
            + (hasClosingHandshake ? keys + "\r\n^n:ds[4U" : "\r\n")))
      return (
        JoinedStream(
          reading: near,
          writing: FramedSink(near, end: hasClosingHandshake ? [0xFF, 0x00] : []) {
            [0x00] + Array($0.hex.utf8) + [0xFF]
          }),
        try await accepted.textPayloads
      )
    case .lengthPrefixed:
      return (
        JoinedStream(reading: near.lengthPrefixed, writing: near.behind(LengthPrefixEncoder())),
        JoinedStream(reading: far.lengthPrefixed, writing: far.behind(LengthPrefixEncoder()))
      )
    case .lines:
      return (near.messages(.lines).inHex, far.messages(.lines).inHex)
    case .chunks(_, let size):
      return (near, JoinedStream(reading: far.pipe(through: ChunkTransform(size: size)), writing: far))
    case .adapted:
      return (SimpleStream(near).polled(on: stage.loop), SimpleStream(far).polled(on: stage.loop))
    case .simple: return (SimpleStream(near), SimpleStream(far))
    case .events(_, let isCompressed): return try await Self.events(near, far, isCompressed: isCompressed, stage)
    case .upload: return Self.upload(near, far, stage)
    case .download: return try await Self.download(near, far, stage)
    }
  }

  private static func secure(
    _ near: some PolledDuplexStream<Bytes, Bytes>, _ far: some PolledDuplexStream<Bytes, Bytes>, _ stage: Stage
  ) async throws -> (near: TLSStream, far: TLSStream) {
    async let accepted = stage.identities.server.accept(over: far)
    let connected = try await stage.identities.client.connect(over: near, to: "www.example.com")
    return (connected, try await accepted)
  }

  private static func events(
    _ near: SimulatedStream, _ far: SimulatedStream, isCompressed: Bool, _ stage: Stage
  ) async throws -> Ends {
    var server = EventSourceServerOptions()
    server.compresses = isCompressed
    // What fills the wire further on takes its time there.
    server.stallTimeout = .seconds(300)
    var client = EventSourceClientOptions()
    client.reconnects = false
    async let accepted = EventSource.accept(over: near, options: server)
    let connected = try await EventSource.connect("http://test/feed", options: client, on: stage.loop) { _, _ in
      RequestRoute(far)
    }
    let connection = try await accepted
    return (
      JoinedStream(
        // There is nothing to be read until all is over.
        reading: Readable<Bytes> {
          try await connection.waitUntilClosed()
          return nil
        },
        writing: connection.behind(ElementTransform<Bytes, ServerSentEvent> { $1.append(ServerSentEvent($0.hex)) })),
      JoinedStream(reading: connected.map { Bytes(hex: $0.data) }, writing: Writable<Bytes> { _ in })
    )
  }

  private static var logger: Logger { Logger(label: "simulate") { _ in SwiftLogNoOpLogHandler() } }

  private static func serve(
    _ stream: SimulatedStream, _ route: HTTPRoute, _ inner: MemoryStream<Bytes>, isWhole: Bool, _ stage: Stage
  ) {
    var options = HTTPServerOptions()
    options.stallTimeout = .seconds(300)
    let connection = HTTPConnection(
      stream, routes: [route], options: options, counter: options.listen.counter(), logger: logger)
    stage.begin("server") {
      await connection.serve()
      // Nobody is left at the inner end. What has not ended there is not all.
      inner.cancel(nil)
      if isWhole { try await inner.close() } else { try await inner.close(after: StreamError.aborted) }
    }
  }

  private static func upload(_ near: SimulatedStream, _ far: SimulatedStream, _ stage: Stage) -> Ends {
    let (inner, outer) = MemoryStream<Bytes>.pair()
    serve(
      far,
      .respond("/up", methods: [.post]) { request in
        try await request.body.pipe(inner)
        return .text("thanks")
      }, inner, isWhole: false, stage)
    let head = Bytes("POST /up HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
    return (
      JoinedStream(
        reading: near,
        writing: FramedSink(near, start: head, end: Bytes("0\r\n\r\n")) { $0.chunk }), outer
    )
  }

  private static func download(
    _ near: SimulatedStream, _ far: SimulatedStream, _ stage: Stage
  ) async throws -> Ends {
    let (inner, outer) = MemoryStream<Bytes>.pair()
    serve(near, .respond("/down") { _ in .stream(inner, type: "text/plain") }, inner, isWhole: true, stage)
    try await far.write("GET /down HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    return (outer, JoinedStream(reading: far.pipe(through: AnswerDecoder()), writing: far))
  }
}

// MARK: what stands between

/// Elements in frames of their own behind a beginning; a good end has words of its own, a failure has not.
private struct FramedSink: WritableStream {
  let base: SimulatedStream
  let start: Bytes
  let end: Bytes
  let frame: @Sendable (Bytes) -> [UInt8]
  private let hasBegun = Flag()

  init(
    _ base: SimulatedStream, start: Bytes = Bytes(), end: Bytes, _ frame: @escaping @Sendable (Bytes) -> [UInt8]
  ) {
    self.base = base
    self.start = start
    self.end = end
    self.frame = frame
  }

  func write(_ element: Bytes) async throws {
    if !hasBegun.raise() { try await base.write(start) }
    try await base.write(Bytes(frame(element)))
  }

  func close() async throws {
    if !hasBegun.raise() { try await base.write(start) }
    do { try await base.write(end) } catch StreamError.closed { return }
    try await base.close()
  }

  func close(after failure: any Error) async throws { try await base.close(after: failure) }
  func abort(_ reason: any Error) { base.abort(reason) }
}

/// A body in chunks behind a head.
private struct AnswerDecoder: Transform {
  private var head: [UInt8]? = []
  private var body = ChunkedDecoder()

  mutating func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) throws {
    guard var head else { return try body.transform(input, into: &output) }
    head += input
    guard let end = head.indices.dropFirst(3).first(where: { head[$0 - 3...$0].elementsEqual("\r\n\r\n".utf8) }) else {
      self.head = head
      return
    }
    self.head = nil
    if end + 1 < head.count { try body.transform(Bytes(head[(end + 1)...]), into: &output) }
  }

  mutating func finish(into output: inout TransformOutput<Bytes>) throws { try body.finish(into: &output) }
}

/// A stream that has the simple gear only.
private struct SimpleStream: DuplexStream {
  let base: SimulatedStream

  init(_ base: SimulatedStream) { self.base = base }

  func read() async throws -> Bytes? { try await base.read() }
  func cancel(_ reason: (any Error)?) { base.cancel(reason) }
  func write(_ element: Bytes) async throws { try await base.write(element) }
  func close() async throws { try await base.close() }
  func close(after failure: any Error) async throws { try await base.close(after: failure) }
  func abort(_ reason: any Error) { base.abort(reason) }
}

extension SimulatedStream {
  /// Reads to the end of a head.
  /// - Returns: what follows it.
  func readHead() async throws -> Bytes {
    var reader = HeadReader()
    while let chunk = try await read() {
      if let (_, rest) = try reader.consume(chunk) { return rest }
    }
    throw StreamError.closed
  }
}

extension WebSocket {
  /// As a stream of bytes: each message's payload.
  var payloads: any DuplexStream<Bytes, Bytes> {
    JoinedStream(
      reading: map { $0.bytes }, writing: behind(ElementTransform<Bytes, Message> { $1.append(.binary($0)) }),
      endsAsOne: true)
  }

  /// The same in hexadecimal digits.
  var textPayloads: any DuplexStream<Bytes, Bytes> {
    JoinedStream(
      reading: map { Bytes(hex: $0.text) },
      writing: behind(ElementTransform<Bytes, Message> { $1.append(Message($0.hex)) }), endsAsOne: true)
  }
}

extension DuplexStream where Output == Message, Input == Message {
  fileprivate var inHex: any DuplexStream<Bytes, Bytes> {
    JoinedStream(
      reading: map { Bytes(hex: $0.text) },
      writing: behind(ElementTransform<Bytes, Message> { $1.append(Message($0.hex)) }))
  }
}

extension Bytes {
  private static let digits = Array("0123456789abcdef".utf8)

  var hex: String {
    String(decoding: flatMap { [Self.digits[Int($0 >> 4)], Self.digits[Int($0 & 15)]] }, as: UTF8.self)
  }

  init(hex text: String) {
    let values = text.utf8.map { $0 <= 57 ? $0 - 48 : $0 - 87 }
    self.init(stride(from: 0, to: values.count - 1, by: 2).map { values[$0] << 4 | values[$0 + 1] })
  }

  fileprivate var chunk: [UInt8] { Array("\(String(count, radix: 16))\r\n".utf8) + Array(self) + [0x0D, 0x0A] }
}
