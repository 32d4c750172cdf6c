import Sluice
import SluiceTestSupport
import Testing

@Suite("Frames that a pipe passes from one WebSocket to another", .timeLimit(.minutes(1)))
struct RelayTests {
  /// A client, whose messages a server pipes into a second server's connection, and that one's client.
  private func relayed(
    pieceSize: Int = .max, firstOptions: WebSocketHandshakeOptions = WebSocketHandshakeOptions(),
    secondOptions: WebSocketHandshakeOptions = WebSocketHandshakeOptions(),
    clientOptions: WebSocketRequestOptions = WebSocketRequestOptions(),
    _ body:
      @escaping @Sendable (_ sender: WebSocket, _ receiver: WebSocket, _ pipe: Task<Void, any Error>) async throws
      -> Void
  ) async throws {
    let loop = SimulatedLoop()
    var network = SimulatedNetwork(loop: loop)
    network.pieceSize = pieceSize
    let final = network
    try await loop.simulate {
      let (one, other) = (final.connection(), final.connection())
      async let source = WebSocket.accept(over: one.1, options: firstOptions)
      let sender = try await WebSocket.connect("ws://test/", over: one.0, options: clientOptions)
      async let target = WebSocket.accept(over: other.1, options: secondOptions)
      let receiver = try await WebSocket.connect("ws://test/", over: other.0, options: clientOptions)
      let (from, to) = (try await source, try await target)
      let pipe = Task { try await from.pipe(to) }
      try await body(sender, receiver, pipe)
      pipe.cancel()
    }
  }

  private static let sizes = [0, 1, 125, 126, 127, 1000, 16_383, 16_384, 16_385, 65_535, 65_536, 70_000]

  @Test(
    "messages of every size arrive as they were, text and binary, however the bytes are cut",
    arguments: [.max, 1, 3, 1000] as [Int])
  func sizes(pieceSize: Int) async throws {
    let sizes = pieceSize < 1000 ? Self.sizes.filter { $0 <= 1000 } : Self.sizes
    try await relayed(pieceSize: pieceSize) { sender, receiver, pipe in
      let sending = Task {
        for size in sizes {
          try await sender.send(String(repeating: "é", count: size))
          try await sender.send(.binary(Bytes([UInt8](repeating: 0xFF, count: size))))
        }
        try await sender.close()
      }
      for size in sizes {
        let text = try #require(try await receiver.read())
        #expect(text.isText && text.bytes.count == 2 * size)
        let binary = try #require(try await receiver.read())
        #expect(!binary.isText && binary.bytes == Bytes([UInt8](repeating: 0xFF, count: size)))
      }
      #expect(try await receiver.read() == nil)
      try await sending.value
      try await pipe.value
    }
  }

  @Test("pings are answered by the one that they reached, and are not passed on")
  func pings() async throws {
    try await relayed { sender, receiver, _ in
      try await sender.send("before")
      try await sender.ping()
      try await sender.send("after")
      #expect(try await receiver.read()?.text == "before")
      #expect(try await receiver.read()?.text == "after")
    }
  }

  @Test("text that is not UTF-8 fails the source, and the target is told behind what came before")
  func invalidText() async throws {
    let loop = SimulatedLoop()
    let network = SimulatedNetwork(loop: loop)
    try await loop.simulate {
      let (near, far) = network.connection()
      let (client, server) = network.connection()
      async let source = SimulatedWire.open(near, far)
      async let target = WebSocket.accept(over: server)
      let receiver = try await WebSocket.connect("ws://test/", over: client)
      let (from, to) = (try await source, try await target)
      let pipe = Task { try await from.pipe(to) }
      // Masked with zeros: "ok", and then a byte that no text has.
      try await near.write([0x81, 0x82, 0, 0, 0, 0, 0x6F, 0x6B, 0x81, 0x81, 0, 0, 0, 0, 0xFF])
      #expect(try await receiver.read()?.text == "ok")
      await #expect(throws: WebSocketError.self) { try await receiver.read() }
      #expect(receiver.closeStatus?.code == .internalError)
      await #expect(throws: (any Error).self) { try await pipe.value }
    }
  }

  @Test("a limit of the source's holds for what is passed on, too")
  func limit() async throws {
    var options = WebSocketHandshakeOptions()
    options.connection.maxMessageSize = 100
    try await relayed(firstOptions: options) { sender, receiver, pipe in
      try await sender.send(String(repeating: "x", count: 100))
      #expect(try await receiver.read()?.bytes.count == 100)
      try await sender.send(String(repeating: "x", count: 101))
      await #expect(throws: (any Error).self) { try await receiver.read() }
      await #expect(throws: (any Error).self) { try await pipe.value }
      await #expect(throws: (any Error).self) { while try await sender.read() != nil {} }
      #expect(sender.closeStatus?.code == .messageTooBig)
    }
  }

  @Test("a client's frames are masked anew on the way to another server")
  func fromServerToServer() async throws {
    let loop = SimulatedLoop()
    let network = SimulatedNetwork(loop: loop)
    try await loop.simulate {
      let (one, other) = (network.connection(), network.connection())
      async let sender = WebSocket.accept(over: one.1)
      let from = try await WebSocket.connect("ws://test/", over: one.0)
      async let receiver = WebSocket.accept(over: other.1)
      let to = try await WebSocket.connect("ws://test/", over: other.0)
      let pipe = Task { try await from.pipe(to) }
      let (first, second) = (try await sender, try await receiver)
      for size in Self.sizes {
        try await first.send(.binary(Bytes([UInt8](repeating: 1, count: size))))
        #expect(try await second.read()?.bytes.count == size)
      }
      try await first.close(CloseCode(rawValue: 4001), "done")
      #expect(try await second.read() == nil)
      #expect(second.closeStatus?.code == CloseCode(rawValue: 4001))
      _ = try? await pipe.value
    }
  }
}
