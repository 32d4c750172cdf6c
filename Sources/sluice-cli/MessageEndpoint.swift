import Sluice

/// A WebSocket, or one after another, or something else that moves messages.
enum MessageEndpoint: Sendable {
  case socket(WebSocket)
  case reconnecting(ReconnectingStream<Message, Message>)
  /// What plays one, or datagrams.
  case other(any DuplexStream<Message, Message>)

  var stream: any DuplexStream<Message, Message> {
    switch self {
    case .socket(let socket): socket
    case .reconnecting(let stream): stream
    case .other(let stream): stream
    }
  }

  /// Whether its end in one direction is that of the other too.
  var endsAsOne: Bool { if case .other = self { false } else { true } }

  /// Ends with 1001 what is open, behind what was written.
  func goAway() async throws {
    switch self {
    case .socket(let socket): try await socket.close(as: .goingAway, "")
    case .reconnecting(let stream):
      try await stream.close { connection in try await (connection as? WebSocket)?.close(as: .goingAway, "") }
    case .other(let stream): stream.cancel(nil)
    }
  }

  /// Ends it as if its peer had ended.
  func endInOrder() {
    if case .other(let stream) = self { return stream.cancel(nil) }
    Task { try? await stream.close() }
  }

  func giveUp(_ reason: any Error) {
    switch self {
    case .socket(let socket): socket.cancel(reason)
    case .reconnecting(let stream): stream.abort(reason)
    case .other(let stream):
      stream.abort(reason)
      stream.cancel(reason)
    }
  }
}

/// The sending half of a WebSocket that is closed with a code and a reason of the user's.
struct ClosingSocket: WritableStream {
  let socket: WebSocket
  let code: CloseCode
  let reason: String

  func write(_ message: Message) async throws { try await socket.send(message) }
  func close() async throws { try await socket.close(code, reason) }
  func close(after failure: any Error) async throws { try await socket.close(after: failure) }
  func abort(_ reason: any Error) { socket.abort(reason) }
}
