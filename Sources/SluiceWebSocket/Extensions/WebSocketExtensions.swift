import SluiceStreams
import SluiceWebSocketProtocol

/// A WebSocket and its `ExtensionPipeline`.
extension WebSocket {
  /// Decodes and assembles what the peer sent, for the extensions to decode.
  /// - Returns: the next message that they have decoded.
  func nextMessage(from pipeline: ExtensionPipeline) throws -> Message? {
    while true {
      if let message = pipeline.popDecoded() { return message }
      guard pipeline.wantsMore, !machine.hasDecodedClose, isReading, let piece = try nextPiece() else {
        return nil
      }
      // What an extension is to decode counts when it has.
      note(.data)
      if let message = try machine.assemble(piece) {
        pipeline.receive(
          ExtensionMessage(kind: message.kind, reserved: piece.reserved, bytes: message.bytes.compacted()), for: self)
      }
    }
  }

  /// Does something once the messages before it are decoded.
  func afterReceived(_ work: @escaping () -> Void) {
    if let pipeline { pipeline.afterReceived(work) } else { work() }
  }

  /// Does something once the messages before it are encoded.
  func afterSent(_ work: @escaping () -> Void) {
    if let pipeline { pipeline.afterSent(work) } else { work() }
  }

  /// The extensions have decoded something, or all.
  func extensionsDidAdvance() {
    if hasReader { tellReader() } else { readAheadIfNeeded() }
  }

  /// The extensions have encoded a message.
  func sendEncoded(_ message: ExtensionMessage) {
    // Nothing follows a message that could not be encoded, and nothing of it all a connection that is given up.
    if pipeline?.hasLostMessages == true { return }
    if case .done = closing { return }
    // A transport that has failed says so itself, at the next `hasRoom`.
    try? gather { $0.send(encoded: message, to: &$1, copyingUpTo: Self.gatherLimit) }
    writer.wake()
  }

  func extensionFailed(_ error: any Error) {
    if let error = error as? WebSocketProtocolError {
      fail(.protocolViolation(error), error.closeCode)
    } else {
      fail(.extensionFailed(underlying: error), .internalError)
    }
    tellReader()
  }

  /// The peer is told 1011 behind what was encoded before, also where another code was to be sent already: in answer to its Close, or ours.
  func encodingFailed(_ error: any Error) {
    let failure = WebSocketError.extensionFailed(underlying: error)
    fail(failure, .internalError)
    changeLife { $0.failWriting(failure) }
    tellReader()
    writer.wake()
  }
}
