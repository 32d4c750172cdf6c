import HTTPTypes
import SluiceStreams

/// What the opening handshake settled.
public struct WebSocketOpening: Sendable {
  /// The URL that a client connected to, or that a server was asked for.
  public let url: String
  /// The subprotocol agreed upon, or nil.
  public let subprotocol: String?
  /// The peer's head as it came, parsed again when asked for: an idle connection holds nothing more of it.
  let head: Bytes

  package init(url: String, subprotocol: String?, head: Bytes) {
    self.url = url
    self.subprotocol = subprotocol
    self.head = head
  }
}
