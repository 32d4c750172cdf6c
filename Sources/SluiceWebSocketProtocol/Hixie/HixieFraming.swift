import SluiceStreams

/// The frames of hixie-75 and hixie-76 on one connection, a server's side. A message is text; there is no ping, and no close code.
package final class HixieFraming {
  private let version: WebSocketVersion
  private var decoder: HixieDecoder
  private var isSending = false

  package init(_ version: WebSocketVersion, maxSkippedBytes: Int) {
    self.version = version
    decoder = HixieDecoder(version: version, maxSkippedBytes: maxSkippedBytes)
  }

  /// The next part of a message, or the Close.
  func next(in input: inout Bytes, _ piece: inout DataPiece?) throws(WebSocketProtocolError) -> DecoderStop {
    switch try decoder.next(in: &input) {
    case .data(let part):
      piece = part
      return .element
    case .ping, .pong, .close: return .control
    case nil: return .nothing
    }
  }

  /// Whether the end of the stream is as good as a Close: hixie-75 has no other.
  var mayEnd: Bool { version == .hixie75 && !decoder.isInsideMessage }

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
