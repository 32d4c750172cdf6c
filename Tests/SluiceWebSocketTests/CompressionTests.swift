import Sluice
import SluiceTestSupport
import Testing

@Suite("Compressed connections (RFC 7692)", .timeLimit(.minutes(2)))
struct CompressionTests {
  private static func options(
    _ extension: PermessageDeflate
  ) -> (server: WebSocketHandshakeOptions, client: WebSocketRequestOptions) {
    var server = WebSocketHandshakeOptions()
    server.extensions = [`extension`]
    var client = WebSocketRequestOptions()
    client.extensions = [`extension`]
    return (server, client)
  }

  private static let takeover = PermessageDeflate(
    outgoing: .init(contextTakeover: true), incoming: .init(contextTakeover: true))

  @Test(
    "an echo of every size, however the bytes are cut, with takeover and without",
    arguments: [PermessageDeflate(), takeover], [1, 7, .max])
  func echo(settings: PermessageDeflate, pieceSize: Int) async throws {
    let (server, client) = Self.options(settings)
    try await SimulatedConnection.run(pieceSize: pieceSize, server: server, client: client) { ends, _ in
      #expect(ends.client.headers["Sec-WebSocket-Extensions"]?.hasPrefix("permessage-deflate") == true)
      async let served: Void = ends.server.pipe(ends.server)
      for size in [0, 1, 1023, 1024, 5000, pieceSize == 1 ? 5000 : 300_000] {
        let text = Message(String(repeating: "sluice ", count: size / 7))
        try await ends.client.send(text)
        #expect(try await ends.client.read() == text)
      }
      try await ends.client.close(.normal)
      try await served
    }
  }

  @Test("the limit counts inflated bytes: 1009, and no more memory than the limit (ATTACKS 17)")
  func bomb() async throws {
    var (server, client) = Self.options(PermessageDeflate())
    server.connection.maxMessageSize = 100_000
    let bomb = Message(String(repeating: "0", count: 1 << 20))
    try await SimulatedConnection.run(server: server, client: client) { ends, loop in
      let received = Task(executorPreference: loop) { try await ends.server.read() }
      try await ends.client.send(bomb)
      await #expect(throws: WebSocketError.self) { try await received.value }
      await #expect(throws: WebSocketError.self) { try await ends.client.read() }
      #expect(ends.client.closeStatus?.code == .messageTooBig)
    }
  }

  @Test("what can't be inflated closes with 1007 (ATTACKS 20)")
  func corrupt() async throws {
    let (server, _) = Self.options(PermessageDeflate())
    try await SimulatedWire.run { near, far, _ in
      async let accepted = WebSocket.accept(over: far, options: server)
      try await near.write(SimulatedWire.request(extensions: "permessage-deflate"))
      let head = try await SimulatedWire.readHead(near)
      #expect(head.contains("permessage-deflate; server_no_context_takeover; client_no_context_takeover"))
      let socket = try await accepted
      try await near.write(frame(0xC1, [0xFF, 0xFF, 0xFF]))
      await #expect(throws: WebSocketError.self) { try await socket.read() }
      #expect(try await near.read() == [0x88, 0x02, 0x03, 0xEF])
    }
  }

  @Test("a reserved bit that was not agreed upon closes with 1002 (ATTACKS 6)")
  func reservedBit() async throws {
    try await SimulatedWire.run { near, far, _ in
      let socket = try await SimulatedWire.open(near, far)
      try await near.write(frame(0xC1, [0x00]))
      await #expect(throws: WebSocketError.self) { try await socket.read() }
      #expect(try await near.read() == [0x88, 0x02, 0x03, 0xEA])
    }
  }

  @Test("a message that must not be compressed is not (ATTACKS 23)")
  func optOut() async throws {
    let (server, _) = Self.options(PermessageDeflate())
    try await SimulatedWire.run { near, far, _ in
      async let accepted = WebSocket.accept(over: far, options: server)
      try await near.write(SimulatedWire.request(extensions: "permessage-deflate"))
      _ = try await SimulatedWire.readHead(near)
      let socket = try await accepted
      var message = Message(String(repeating: "a", count: 2000))
      try await socket.send(message)
      #expect(try await near.read()?.first == 0xC1)
      message.isCompressible = false
      try await socket.send(message)
      #expect(try await near.read()?.first == 0x81)
    }
  }

  @Test("parts are compressed as they come, and a message of any length passes")
  func parts() async throws {
    let (server, client) = Self.options(Self.takeover)
    try await SimulatedConnection.run(server: server, client: client) { ends, _ in
      async let served: Void = ends.server.parts.pipe(ends.server.parts)
      let part = Bytes(String(repeating: "0123456789", count: 1000))
      async let sent: Void = {
        for number in 1...50 {
          try await ends.client.parts.write(MessagePart(kind: .text, bytes: part, isFinal: number == 50))
        }
      }()
      #expect(try await ends.client.read()?.bytes.count == 500_000)
      try await sent
      try await ends.client.close(.normal)
      try await served
    }
  }
}
