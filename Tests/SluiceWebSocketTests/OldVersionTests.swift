import Sluice
import SluiceTestSupport
import Testing

@Suite("Versions before RFC 6455", .timeLimit(.minutes(2)))
struct OldVersionTests {
  private static let head76: Bytes = """
    GET /demo HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nSec-WebSocket-Key2: 12998 5 Y3 1  .P00\r\n\
    Upgrade: WebSocket\r\nSec-WebSocket-Key1: 4 @1  46546xW%0l 1 5\r\nOrigin: http://example.com\r\n\r\n
    """

  private static let head75: Bytes = """
    GET /demo HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
    Origin: http://example.com\r\n\r\n
    """

  @Test("hixie-76: the last eight bytes may come with the head, in parts, or when the answer's head has come")
  func handshake76() async throws {
    for isLate in [false, true] {
      for pieceSize in [1, 3, Int.max] {
        try await SimulatedWire.run(pieceSize: pieceSize) { near, far, _ in
          async let accepted = WebSocket.accept(over: far)
          try await near.write(Self.head76)
          if !isLate { try await near.write("^n:ds[4U") }
          let head = try await SimulatedWire.readHead(near)
          #expect(head.hasPrefix("HTTP/1.1 101 WebSocket Protocol Handshake\r\n"))
          #expect(head.contains("Sec-WebSocket-Location: ws://example.com/demo\r\n"))
          if isLate { try await near.write("^n:ds[4U") }
          #expect(try await Self.read(16, from: near) == "8jKS'y:G*Co,Wxa-")
          let socket = try await accepted
          #expect(socket.version == "hixie-76")
          socket.abort(StreamError.aborted)
        }
      }
    }
  }

  private static func read(_ count: Int, from stream: SimulatedStream) async throws -> Bytes {
    var builder = BytesBuilder()
    while builder.count < count, let chunk = try await stream.read() { builder.append(chunk) }
    return builder.take()
  }

  /// Opens a connection of an old version and runs an echo on it.
  private static func echo(
    _ version: String, _ body: @escaping @Sendable (SimulatedStream, WebSocket) async throws -> Void
  ) async throws {
    try await SimulatedWire.run { near, far, _ in
      async let accepted = WebSocket.accept(over: far)
      try await near.write(version == "hixie-76" ? head76 : head75)
      if version == "hixie-76" { try await near.write("^n:ds[4U") }
      _ = try await SimulatedWire.readHead(near)
      if version == "hixie-76" { _ = try await read(16, from: near) }
      let socket = try await accepted
      #expect(socket.version == version)
      try await body(near, socket)
    }
  }

  @Test("text goes both ways, in messages and in parts", arguments: ["hixie-75", "hixie-76"])
  func text(version: String) async throws {
    try await Self.echo(version) { near, socket in
      try await near.write([0x00, 0x48, 0x69, 0xFF])
      #expect(try await socket.read() == "Hi")
      try await socket.send("grüße")
      #expect(try await near.read() == Bytes([0x00] + Array("grüße".utf8) + [0xFF]))
      try await socket.parts.write(MessagePart(kind: .text, bytes: "a", isFinal: false))
      try await socket.parts.write(MessagePart(kind: .text, bytes: "b", isFinal: true))
      #expect(try await Self.read(4, from: near) == [0x00, 0x61, 0x62, 0xFF])
      socket.abort(StreamError.aborted)
    }
  }

  @Test("what the version does not have says so at once and sends nothing", arguments: ["hixie-75", "hixie-76"])
  func unsupported(version: String) async throws {
    try await Self.echo(version) { near, socket in
      await #expect(throws: WebSocketError.self) { try await socket.ping() }
      await #expect(throws: WebSocketError.self) { try await socket.pong() }
      await #expect(throws: WebSocketError.self) { try await socket.send([1, 2, 3] as Bytes) }
      try await socket.send("still open")
      #expect(try await near.read()?.count == 12)
      socket.abort(StreamError.aborted)
    }
  }

  @Test("hixie-76 closes with FF 00 in both directions")
  func close76() async throws {
    try await Self.echo("hixie-76") { near, socket in
      async let served: Void = socket.pipe(socket)
      try await near.write([0x00, 0x61, 0xFF, 0xFF, 0x00])
      #expect(try await Self.read(5, from: near) == [0x00, 0x61, 0xFF, 0xFF, 0x00])
      #expect(try await near.read() == nil)
      try await near.close()
      try await served
    }
    try await Self.echo("hixie-76") { near, socket in
      async let closed: Void = socket.close(.normal)
      #expect(try await Self.read(2, from: near) == [0xFF, 0x00])
      try await near.write([0xFF, 0x00])
      try await near.close()
      try await closed
      #expect(try await socket.read() == nil)
    }
  }

  @Test("hixie-75 ends with its connection")
  func close75() async throws {
    try await Self.echo("hixie-75") { near, socket in
      async let served: Void = socket.pipe(socket)
      try await near.write([0x00, 0x61, 0xFF])
      #expect(try await Self.read(3, from: near) == [0x00, 0x61, 0xFF])
      try await near.close()
      #expect(try await near.read() == nil)
      try await served
    }
    try await Self.echo("hixie-75") { near, socket in
      async let closed: Void = socket.close(.normal)
      #expect(try await near.read() == nil)
      try await near.close()
      try await closed
    }
  }

  @Test(
    "a lost connection is an error in hixie-76, and inside a message in hixie-75", arguments: ["hixie-75", "hixie-76"])
  func lost(version: String) async throws {
    try await Self.echo(version) { near, socket in
      try await near.write([0x00, 0x61])
      try await near.close()
      await #expect(throws: WebSocketError.self) { try await socket.read() }
    }
  }

  @Test("a text without end stops at the limit (ATTACKS 15)")
  func endless() async throws {
    var options = WebSocketHandshakeOptions()
    options.connection.maxMessageSize = 1000
    let final = options
    try await SimulatedWire.run { near, far, _ in
      async let accepted = WebSocket.accept(over: far, options: final)
      try await near.write(Self.head75)
      _ = try await SimulatedWire.readHead(near)
      let socket = try await accepted
      try await near.write(Bytes([0x00] + [UInt8](repeating: 0x61, count: 2000)))
      await #expect(throws: WebSocketError.self) { try await socket.read() }
      #expect(try await near.read() == nil)
    }
  }

  @Test("hybi-7 and hybi-8 are RFC 6455 with another origin field", arguments: [7, 8])
  func hybi(number: Int) async throws {
    let request: @Sendable (String) -> Bytes = { origin in
      Bytes(
        """
        GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: \(number)\r\n\
        Sec-WebSocket-Origin: \(origin)\r\n\r\n
        """)
    }
    try await SimulatedWire.run { near, far, _ in
      async let accepted = WebSocket.accept(over: far)
      try await near.write(request("http://test"))
      #expect(try await SimulatedWire.readHead(near).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
      let socket = try await accepted
      #expect(socket.version == "hybi-\(number)")
      try await near.write(frame(0x81, "Hi"))
      #expect(try await socket.read() == "Hi")
      socket.abort(StreamError.aborted)
    }
    try await SimulatedWire.run { near, far, loop in
      let accepted = Task(executorPreference: loop) { try await WebSocket.accept(over: far) }
      try await near.write(request("http://evil"))
      #expect(try await SimulatedWire.readHead(near).hasPrefix("HTTP/1.1 403"))
      try await near.close()
      await #expect(throws: RequestRejection.self) { try await accepted.value }
    }
  }
}
