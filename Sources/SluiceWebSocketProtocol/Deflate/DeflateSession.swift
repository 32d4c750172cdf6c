import SluiceStreams
import SluiceZlib

/// permessage-deflate on one connection.
///
/// Messages are compressed and inflated in pieces, as they come, in constant memory. As an `ExtensionSession` it does the same
/// for whole messages, among other extensions.
package final class DeflateSession: ExtensionSession, @unchecked Sendable {  // used on its connection's loop only
  @safe @exclusivity(unchecked) private var inflater: MessageInflater
  @safe @exclusivity(unchecked) private var deflater: MessageDeflater
  /// What zlib's contexts are borrowed from: the loop's, once there is one.
  @safe @exclusivity(unchecked) private var contexts: DeflateContexts
  /// Bytes that `decode` may make of a message.
  private var maxMessageSize = MessageAssembler.defaultMaxMessageSize

  init(outgoing: PermessageDeflate.Window, incoming: PermessageDeflate.Window, settings: PermessageDeflate) {
    contexts = DeflateContexts()
    inflater = MessageInflater(window: incoming)
    deflater = MessageDeflater(
      DeflateSettings(
        windowBits: outgoing.bits, level: settings.level, memoryLevel: settings.memoryLevel,
        strategy: settings.strategy),
      window: outgoing, threshold: settings.threshold)
  }

  /// Tells where the connection lives, before its first message.
  package func attach(_ contexts: DeflateContexts, maxMessageSize: Int) {
    self.contexts = contexts
    self.maxMessageSize = maxMessageSize
  }

  /// Takes a piece of a compressed message; `nextInflated` has given nil for the one before.
  package func feed(_ piece: consuming DataPiece) { inflater.feed(piece) }

  /// The next part of what was fed, inflated and checked; nil when there is no more. Lies in a buffer of the loop.
  package func nextInflated() throws(WebSocketProtocolError) -> DataPiece? { try inflater.next(contexts) }

  /// - Returns: nil if the message is better sent as it is. Good until the next call on this loop.
  package func compress(_ message: Bytes) -> Bytes? { deflater.compress(message, contexts) }

  /// - Returns: nil if the message is sent as it is. Good until the next call on this loop.
  package func compress(fragment: Bytes, isCompressible: Bool, isFinal: Bool) -> Bytes? {
    deflater.compress(fragment: fragment, isCompressible: isCompressible, isFinal: isFinal, contexts)
  }

  package func close() {
    inflater.release(to: contexts)
    deflater.release(to: contexts)
  }

  // MARK: whole messages

  package func decode(_ message: ExtensionMessage) async throws -> ExtensionMessage {
    guard message.reserved.contains(.rsv1) else { return message }
    var assembler = MessageAssembler(maxMessageSize: maxMessageSize)
    // Text is checked once the last extension has decoded it.
    inflater.feed(DataPiece(kind: .binary, bytes: message.bytes))
    while let piece = try inflater.next(contexts) {
      guard let whole = try assembler.append(piece) else { continue }
      return ExtensionMessage(
        kind: message.kind, reserved: message.reserved.subtracting(.rsv1), bytes: whole.bytes.compacted(),
        isCompressible: message.isCompressible)
    }
    throw WebSocketProtocolError.truncatedCompressedData
  }

  package func encode(_ message: ExtensionMessage) async throws -> ExtensionMessage {
    guard message.isCompressible, let compressed = deflater.compress(message.bytes, contexts) else { return message }
    return ExtensionMessage(
      kind: message.kind, reserved: message.reserved.union(.rsv1), bytes: Bytes(copying: compressed.span))
  }
}
