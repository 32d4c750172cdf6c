import SluiceStreams
import SluiceTesting
import SluiceWebSocket
import SluiceWebSocketProtocol

/// A server's WebSocket on a simulated network, whose peer is the target.
struct SimulatedServer: Sendable {
  let socket: WebSocket
  let peer: SimulatedStream
  /// The server's end of the connection.
  let transport: SimulatedStream
  let loop: SimulatedLoop

  /// Runs a life of it on virtual time. Whatever waits in it has to end by itself, and leave no timer behind.
  static func run(
    _ options: WebSocketHandshakeOptions, _ body: @escaping @Sendable (SimulatedServer) async throws -> Void
  ) {
    let loop = SimulatedLoop()
    do {
      try loop.simulateHere {
        var network = SimulatedNetwork(loop: loop)
        network.delay = .milliseconds(1)
        let (peer, transport) = network.connection()
        async let accepted = WebSocket.accept(over: transport, options: options)
        try await peer.write(request(options))
        var head = ""
        while !head.hasSuffix("\r\n\r\n"), let chunk = try await peer.read() { head += chunk.string }
        try await body(SimulatedServer(socket: try await accepted, peer: peer, transport: transport, loop: loop))
        try await loop.sleep(for: .seconds(60))
        promise(loop.openTimers == 0, "\(loop.openTimers) timers are left")
      }
    } catch { promise(false, "\(error)") }
  }

  private static func request(_ options: WebSocketHandshakeOptions) -> Bytes {
    let deflate = options.extensions.isEmpty ? "" : "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    return Bytes(
      """
      GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\(deflate)\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n
      """)
  }

  /// What the protocol makes of all that a peer writes.
  struct Conversation {
    var messages: [Message] = []
    /// Whether it ends by a Close, or a violation, and not with the connection.
    var hasEnd = false
    /// The peer's code, if it is its Close that ends it.
    var code: CloseCode?

    init(_ input: Bytes, _ options: WebSocketHandshakeOptions) {
      let driver = WebSocketDriver.server(options: options)
      driver.receive(SimulatedServer.request(options))
      driver.receive(input)
      while let event = driver.nextEvent() {
        switch event {
        case .message(let message): messages.append(message)
        case .close(let code, _): self.code = code
        case .open, .ping, .pong, .failed: break
        }
      }
      hasEnd = driver.isOver
    }
  }

  /// The peer writes this in pieces of random sizes, with pauses between them.
  func write(_ bytes: Bytes, seed: UInt8) async throws {
    var generator = SplitMix(state: UInt64(seed))
    var rest = bytes
    while !rest.isEmpty {
      let size = 1 + generator.below(1 << (1 + generator.below(10)))
      // Who is gone reads nothing more.
      guard (try? peer.push(rest.prefix(size))) != nil else { return }
      peer.flush()
      rest = rest.dropFirst(size)
      if generator.below(2) == 0 { try await loop.sleep(for: .milliseconds(generator.below(4))) }
    }
  }

  /// Reads what the peer gets, to its end.
  func readAll() -> Task<(output: Bytes, failure: (any Error)?), Never> {
    Task(executorPreference: loop) {
      var output = BytesBuilder()
      do {
        while let chunk = try await peer.read() { output.append(chunk) }
      } catch { return (output.take(), error) }
      return (output.take(), nil)
    }
  }

  /// What a server has sent: right frames, and nothing behind a Close.
  static func check(_ output: Bytes, compresses: Bool, mayBeCut: Bool) {
    var decoder = FrameDecoder(role: .client, allowedReservedBits: compresses ? .rsv1 : [])
    do {
      for index in output.indices {
        promise(!decoder.isClosed, "it sends something behind its Close")
        var byte = output[index...index]
        while try decoder.next(in: &byte) != nil {}
      }
    } catch { promise(false, "what it sends is wrong: \(error)") }
    promise(mayBeCut || decoder.isClosed, "it ends without a Close")
  }

  /// Frames that are mostly right, of the target of frames; a Close is behind them.
  static func randomFrames(_ generator: inout SplitMix) -> Bytes {
    var frames = BytesBuilder(capacity: 256)
    for _ in 0..<generator.below(6) {
      var input = FramesTarget.randomInput(&generator)
      while input[input.startIndex] & 1 != 0 { input = FramesTarget.randomInput(&generator) }
      // Without its two settings.
      frames.append(input.dropFirst(2))
    }
    if generator.below(8) > 0 { frames.append([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8] as Bytes) }
    return frames.take()
  }
}
