import SluiceStreams
import SluiceWebSocket
import SluiceWebSocketProtocol

/// A server's connection that ends, by whoever and whatever is on its way then: everything that waits ends within the times that have names, what was
/// sent is right, and a peer that says its Close and reads on gets ours, and no reset.
enum ClosingTarget: FuzzTarget {
  static let name = "closing"

  static func run(_ input: Bytes) {
    var reader = InputReader(input)
    let first = reader.byte()
    let action = Action(rawValue: first & 7) ?? .reads
    let end = PeerEnd(rawValue: first >> 3 & 7) ?? .atOurs
    let count = Int(first >> 6)
    let seed = reader.byte()
    let wire = reader.rest
    let options = options
    let expected = SimulatedServer.Conversation(wire, options)
    SimulatedServer.run(options) { server in
      let start = server.loop.now
      let output = server.readAll()
      let application = Task(executorPreference: server.loop) {
        for _ in 0..<count { if (try? await server.socket.read()) == nil { break } }
        await action.act(on: server.socket)
        await server.socket.waitUntilClosed()
      }
      try await server.write(wire, seed: seed)
      let isOver = try await end.act(on: server, output)
      let watch = server.loop.schedule(after: .seconds(60)) { application.cancel() }
      await application.value
      server.loop.cancelTimer(watch)
      if !isOver || action == .aborts || application.isCancelled { server.socket.abort(StreamError.aborted) }
      if !isOver { server.peer.abort(StreamError.aborted) }
      let sent = await output.value
      // Whoever reads parts of it, and then something else, is told so by the rules of parts.
      let endsWell = isOver && expected.hasEnd && action != .aborts && !application.isCancelled
      SimulatedServer.check(sent.output, compresses: false, mayBeCut: !endsWell)
      promise(!endsWell || sent.failure == nil, "\(end) and \(action): the peer is told of \(sent.failure as Any)")
      promise(server.socket.readyState == .closed, "it is \(server.socket.readyState) in the end")
      promise(server.loop.now - start < .seconds(120), "it has taken \(server.loop.now - start)")
    }
  }

  private static var options: WebSocketHandshakeOptions {
    var options = WebSocketHandshakeOptions()
    options.connection.maxMessageSize = 10_000
    options.connection.maxFragments = 16
    // More than an input can be: a Close behind what nobody reads is found.
    options.connection.writeHighWatermark = 1 << 20
    return options
  }

  private enum Action: UInt8 {
    case closes, cancels, aborts, sends, reads, leavesAMessageOpen, closesCancelled, echoes

    func act(on socket: WebSocket) async {
      switch self {
      case .closes: try? await socket.close(.goingAway, "enough")
      case .cancels: socket.cancel(nil)
      case .aborts: socket.abort(StreamError.aborted)
      case .sends:
        for size in [1, 200, 20_000] { try? await socket.send(Bytes([UInt8](repeating: 7, count: size))) }
        try? await socket.close()
      case .reads:
        while (try? await socket.read()) != nil {}
        try? await socket.close()
      case .leavesAMessageOpen:
        try? await socket.parts.write(MessagePart(kind: .binary, bytes: "begun", isFinal: false))
        try? await socket.close()
      case .closesCancelled:
        let closing = Task(executorPreference: socket.loop) { try await socket.close() }
        closing.cancel()
        _ = await closing.result
      case .echoes: try? await socket.pipe(socket)
      }
    }
  }

  private enum PeerEnd: UInt8 {
    /// When the server has ended, or after some time without that.
    case atOurs
    case atOnce
    /// It takes nothing for a while before that.
    case stalls
    case resets
    case never

    /// - Returns: whether the peer has ended as it should.
    func act(
      on server: SimulatedServer, _ output: Task<(output: Bytes, failure: (any Error)?), Never>
    ) async throws -> Bool {
      let peer = server.peer
      switch self {
      case .atOnce: break
      case .atOurs:
        let late = server.loop.schedule(after: .seconds(5)) { peer.closeWhenFlushed { _ in } }
        _ = await output.value
        server.loop.cancelTimer(late)
      case .stalls:
        server.transport.stall(true)
        try await server.loop.sleep(for: .seconds(5))
        server.transport.stall(false)
      case .resets:
        try await server.loop.sleep(for: .milliseconds(3))
        peer.abort(StreamError.aborted)
        return false
      case .never: return false
      }
      try? await peer.close()
      return true
    }
  }

  static func randomInput(_ generator: inout SplitMix) -> Bytes {
    var input = BytesBuilder(capacity: 256)
    input.append(generator.byte())
    input.append(generator.byte())
    input.append(SimulatedServer.randomFrames(&generator))
    return input.take()
  }
}
