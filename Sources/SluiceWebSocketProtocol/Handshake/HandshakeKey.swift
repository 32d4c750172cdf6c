import SluiceStreams

/// The client's random key, and the server's answer to it (RFC 6455 §4.1, §4.2.2).
package struct HandshakeKey: Sendable, Hashable {
  /// As `Sec-WebSocket-Key` has it.
  package let value: String

  /// A new one: 16 random bytes.
  package init() {
    var generator = SystemRandomNumberGenerator()
    value = Base64.encode((0..<16).map { _ in UInt8.random(in: .min ... .max, using: &generator) })
  }

  /// From a request.
  /// - Returns: nil unless it stands for 16 bytes.
  package init?(_ value: String) {
    guard Base64.decode(value.utf8)?.count == 16 else { return nil }
    self.value = value
  }

  /// What `Sec-WebSocket-Accept` must be.
  package var accept: String {
    Base64.encode(SHA1.digest((value + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8))
  }
}
