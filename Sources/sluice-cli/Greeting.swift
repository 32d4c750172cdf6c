import ArgumentParser
import Sluice
import SluiceStreams
import SluiceWebSocket
import SluiceWebSocketProtocol

/// What is sent first on each connection that is made.
struct Greeting: Sendable {
  private let messages: [Message]
  private let framing: MessageFraming

  init(_ texts: [String], framing: MessageFraming, kind: MessageKind) {
    messages = texts.map { Message(kind: kind, bytes: Bytes($0)) }
    self.framing = framing
  }

  func say(to socket: WebSocket) async throws {
    for message in messages { try await socket.send(message) }
  }

  func say(to stream: some WritableStream<Bytes>) async throws {
    for message in messages { try await stream.write(message, as: framing) }
  }
}

extension WritableStream<Bytes> {
  func write(_ message: Message, as framing: MessageFraming) async throws {
    var output = TransformOutput<Bytes>()
    try MessageEncoder(framing).transform(message, into: &output)
    while let bytes = output.popFirst() { try await write(bytes) }
  }
}
