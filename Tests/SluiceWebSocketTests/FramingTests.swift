import Sluice
import SluiceTestSupport
import Testing

@Suite("Frames as a stage on any stream of bytes", .timeLimit(.minutes(1)))
struct FramingTests {
  /// Sends messages of all sizes through an echo, has a pong, and closes.
  private func converse(_ client: WebSocket, _ server: WebSocket) async throws {
    async let echo: Void = server.pipe(server)
    for size in [0, 1, 125, 126, 65_535, 65_536, 300_000] {
      let message = Message.binary(Bytes([UInt8](repeating: 7, count: size)))
      try await client.send(message)
      #expect(try await client.read() == message)
    }
    #expect(try await client.ping() >= .zero)
    try await client.close(CloseCode(rawValue: 4000), "done")
    try await echo
    let status = await server.closeStatus
    #expect(status?.code.rawValue == 4000 && status?.reason == "done")
    #expect(client.url == "" && client.request == nil && server.protocol == "")
  }

  @Test("over an in-memory pair of the simple gear")
  func memory() async throws {
    let (near, far) = MemoryStream<Bytes>.pair()
    try await converse(
      near.polled(on: UVLoop.shared).pipe(through: WebSocket.Framing(.client)),
      far.polled(on: UVLoop.shared).pipe(through: WebSocket.Framing(.server)))
  }

  @Test("over a Unix socket")
  func unixSocket() async throws {
    let path = "/tmp/sluice-framing-\(UInt32.random(in: 0 ... .max)).sock"
    let listener = try await UnixSocket.listen(path)
    async let accepted = listener.read()
    let near = try await UnixSocket.connect(path)
    let far = try #require(try await accepted)
    try await converse(
      near.pipe(through: WebSocket.Framing(.client)), far.pipe(through: WebSocket.Framing(.server)))
    listener.cancel(nil)
  }

  @Test("what another reader has read of the stream already comes first")
  func head() async throws {
    try await SimulatedWire.run { near, far, _ in
      let ws = try await far.pipe(through: WebSocket.Framing(.server), head: frame(0x81, "first"))
      try await near.write(frame(0x81, "second"))
      #expect(try await ws.read() == "first")
      #expect(try await ws.read() == "second")
      ws.abort(StreamError.aborted)
    }
  }

  @Test("both ends of one role do not understand each other")
  func roles() async throws {
    try await SimulatedWire.run { near, far, _ in
      let one = try await near.pipe(through: WebSocket.Framing(.server))
      let other = try await far.pipe(through: WebSocket.Framing(.server))
      try await one.send("hello")
      await #expect(throws: WebSocketError.self) { try await other.read() }
      other.abort(StreamError.aborted)
    }
  }
}
