import SluiceStreams
import SluiceWebSocket
import SluiceWebSocketProtocol

/// A server's connection that nobody reads for a while: what is read then is what the protocol makes of the peer's bytes, whenever that is, and what
/// was sent meanwhile is right.
enum ReadAheadTarget: FuzzTarget {
  static let name = "read-ahead"

  static func run(_ input: Bytes) {
    var reader = InputReader(input)
    let settings = Settings(rawValue: reader.byte())
    let seed = reader.byte()
    let wire = reader.rest
    let options = settings.options
    let expected = SimulatedServer.Conversation(wire, options)
    SimulatedServer.run(options) { server in
      let output = server.readAll()
      let application = Task(executorPreference: server.loop) {
        if settings.contains(.sends) { try? await server.socket.send("ahead") }
        try await server.loop.sleep(for: settings.pause)
        return try await settings.contains(.parts) ? Reading(parts: server.socket) : Reading(messages: server.socket)
      }
      try await server.write(wire, seed: seed)
      try? await server.peer.close()
      let reading = try await application.value
      check(reading, expected)
      try? await server.socket.close()
      let sent = await output.value
      SimulatedServer.check(sent.output, compresses: settings.contains(.compresses), mayBeCut: true)
      promise(server.socket.readyState == .closed, "it is \(server.socket.readyState) in the end")
    }
  }

  private struct Settings: OptionSet {
    let rawValue: UInt8
    static let compresses = Settings(rawValue: 1)
    static let sends = Settings(rawValue: 2)
    static let parts = Settings(rawValue: 4)
    /// Little is read ahead.
    static let lowMark = Settings(rawValue: 8)

    /// When reading begins: at once, soon, before the close timeout, or behind it.
    var pause: Duration { [.zero, .milliseconds(2), .seconds(9), .seconds(30)][Int(rawValue >> 4) & 3] }

    var options: WebSocketHandshakeOptions {
      var options = WebSocketHandshakeOptions()
      if contains(.compresses) { options.extensions = [PermessageDeflate()] }
      options.connection.maxMessageSize = 10_000
      options.connection.maxFragments = 16
      options.connection.writeHighWatermark = contains(.lowMark) ? 200 : 1 << 20
      return options
    }
  }

  /// All that the application has read.
  private struct Reading: Sendable {
    var messages: [Message] = []
    var failure: (any Error)?
    /// Where parts are read, the sizes of messages count for nobody.
    var isInParts = false

    init(messages socket: WebSocket) async throws {
      do { while let message = try await socket.read() { messages.append(message) } } catch { failure = error }
    }

    init(parts socket: WebSocket) async throws {
      isInParts = true
      var bytes = BytesBuilder()
      do {
        while let part = try await socket.parts.read() {
          bytes.append(part.bytes)
          if part.isFinal { messages.append(Message(kind: part.kind, bytes: bytes.take())) }
        }
      } catch { failure = error }
    }
  }

  private static func check(_ reading: Reading, _ expected: SimulatedServer.Conversation) {
    if reading.isInParts {
      // What is too long as a message, or has too many parts, goes on.
      promise(
        zip(reading.messages, expected.messages).allSatisfy { $0 == $1 }
          && reading.messages.count >= expected.messages.count,
        "\(reading.messages.count) messages in parts instead of \(expected.messages.count)")
      return
    }
    promise(
      reading.messages == expected.messages, "read \(reading.messages), expected \(expected.messages)")
    let isClean = expected.code?.isCleanEnd == true
    promise((reading.failure == nil) == isClean, "\(expected.code as Any) is read as \(reading.failure as Any)")
  }

  static func randomInput(_ generator: inout SplitMix) -> Bytes {
    var input = BytesBuilder(capacity: 256)
    input.append(generator.byte())
    input.append(generator.byte())
    input.append(SimulatedServer.randomFrames(&generator))
    return input.take()
  }
}
