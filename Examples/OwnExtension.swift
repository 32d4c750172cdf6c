import Sluice
import SluiceWebSocketProtocol

// An extension of one's own: turns the bytes of every message around, and says so with RSV2.
struct Reversing: WebSocketExtension {
  let name = "x-reverse"
  let reservedBits = ReservedBits.rsv2

  func offers() -> [ExtensionParameters] { [ExtensionParameters(name)] }

  func answer(_ offers: [ExtensionParameters]) -> ExtensionAnswer? {
    ExtensionAnswer(parameters: ExtensionParameters(name), session: Session())
  }

  func accept(_ answer: ExtensionParameters) throws -> any ExtensionSession { Session() }

  final class Session: ExtensionSession {
    func encode(_ message: ExtensionMessage) async throws -> ExtensionMessage { reversed(message) }
    func decode(_ message: ExtensionMessage) async throws -> ExtensionMessage { reversed(message) }
    func close() {}

    private func reversed(_ message: ExtensionMessage) -> ExtensionMessage {
      ExtensionMessage(
        kind: message.kind, reserved: message.reserved.symmetricDifference(.rsv2),
        bytes: Bytes(message.bytes.reversed()))
    }
  }
}

func ownExtension() async throws {
  var options = WebSocketClientOptions()
  options.extensions = [Reversing()]
  let ws = try await WebSocket.connect("ws://127.0.0.1:8000", options: options)
  try await ws.send("hello")
}
