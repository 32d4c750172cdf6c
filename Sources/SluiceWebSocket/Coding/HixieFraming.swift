import SluiceStreams
import SluiceWebSocketProtocol

/// The frames of hixie-75 and hixie-76 on one connection. A message is text; there is no ping, and no close code.
final class HixieFraming {
  let version: WebSocketVersion
  var decoder: HixieDecoder
  private var isSending = false

  init(_ version: WebSocketVersion, maxSkippedBytes: Int) {
    self.version = version
    decoder = HixieDecoder(version: version, maxSkippedBytes: maxSkippedBytes)
  }

  /// Appends a part of a message to what is to be sent: 00, the text, FF.
  /// - Throws: `WebSocketError.unsupported` for binary.
  func append(_ kind: MessageKind, _ bytes: Bytes, isFinal: Bool, to output: inout BytesBuilder) throws {
    guard kind == .text else { throw WebSocketError.unsupported("a binary message", version) }
    if !isSending { output.append(0x00) }
    output.append(bytes.span)
    if isFinal { output.append(0xFF) }
    isSending = !isFinal
  }

  /// hixie-76 closes with FF 00; hixie-75 has nothing to close with but the end of the connection.
  var closingHandshake: Bytes { version == .hixie76 ? [0xFF, 0x00] : [] }
}
