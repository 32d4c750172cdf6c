import SluiceStreams
import SluiceWebSocketProtocol

/// One sink for many WebSockets: a message is framed once, and compressed once where the parameters allow it.
public typealias WebSocketBroadcast = Broadcast<WebSocket>

/// A message and the frame that all can share who need no other one.
public struct PreparedMessage: Sendable {
  let message: Message
  /// As a server sends it without extensions; nil where the payload is long, and shared as it is.
  let frame: Bytes?
}

extension WebSocket: BroadcastMember {
  public static func prepare(_ message: Message) -> PreparedMessage {
    let bytes = message.bytes
    guard bytes.count <= gatherLimit else {
      return PreparedMessage(message: Message(kind: message.kind, bytes: bytes.compacted()), frame: nil)
    }
    var frame = BytesBuilder(capacity: FrameHeader.maxEncodedLength + bytes.count)
    frame.append(
      FrameHeader(message.kind.opcode, isFinal: true, reserved: [], maskingKey: nil, payloadLength: bytes.count))
    frame.append(bytes.span)
    return PreparedMessage(message: message, frame: frame.take())
  }

  public func didMiss() { options.observer?.didMiss() }

  public func push(prepared: PreparedMessage) throws {
    guard let frame = prepared.frame, case .plain = coding, maskingKeys == nil, sendingFragments == nil,
      case .open = writeState
    else {
      return try push(prepared.message)
    }
    noteSent(prepared.message.bytes.count, endsMessage: true)
    if gathered.capacity == 0 { gathered = context.takeScratch() }
    gathered.append(frame.span)
    if gathered.count >= options.writeHighWatermark { try transport.push(gathered.take()) }
  }
}
