/// How the peer violated RFC 6455 or a limit, and the close code that it is sent.
public enum WebSocketProtocolError: Error, Hashable, Sendable {
  /// §5.2: an opcode of 3-7 or 11-15.
  case reservedOpcode(UInt8)
  /// §5.2: reserved bits that no negotiated extension gives a meaning on this frame.
  case reservedBits(ReservedBits, Opcode)
  /// §5.5: a Close, Ping or Pong without FIN.
  case fragmentedControlFrame(Opcode)
  /// §5.5: a Close, Ping or Pong with an extended length; 125 bytes are allowed.
  case controlFrameTooLong(Opcode)
  /// §5.1: a client sent a frame without a mask.
  case unmaskedFrame
  /// §5.1: a server sent a frame with a mask.
  case maskedFrame
  /// §5.2: a length in more bytes than it needs.
  case nonMinimalLength(UInt64, lengthBytes: Int)
  /// §5.2: a 64-bit length whose most significant bit is set.
  case lengthOutOfRange(UInt64)
  /// §5.4: a continuation frame, and no message was begun.
  case unexpectedContinuation
  /// §5.4: a text or binary frame inside a fragmented message.
  case interruptedMessage(by: Opcode)
  /// §5.5.1: a Close frame with one byte; a code has two.
  case truncatedCloseCode
  /// §7.4: a Close frame with a code that is not for the wire.
  case invalidCloseCode(CloseCode)
  /// §5.5.1: a Close frame whose reason is not UTF-8.
  case invalidCloseReason
  /// §8.1: a text message that is not UTF-8, found at the first byte that no valid text has there.
  case invalidText
  /// §8.1: a text message that ends inside a character.
  case truncatedText
  /// A message longer than `maxMessageSize`; `actual` is what is known of its length, in bytes.
  case messageTooBig(limit: Int, actual: Int)
  /// A message in more frames than `maxFragments`.
  case tooManyFragments(limit: Int)
  /// RFC 7692 §7.2.2: a compressed message that no deflate stream has.
  case invalidCompressedData
  /// RFC 7692 §7.2.2: a compressed message that ends inside a block.
  case truncatedCompressedData
  /// Not enough memory for a compression context.
  case outOfMemory

  /// The code for the Close frame that answers it.
  public var closeCode: CloseCode {
    switch self {
    case .reservedOpcode, .reservedBits, .fragmentedControlFrame, .controlFrameTooLong, .unmaskedFrame, .maskedFrame,
      .nonMinimalLength, .lengthOutOfRange, .unexpectedContinuation, .interruptedMessage, .truncatedCloseCode,
      .invalidCloseCode:
      .protocolError
    case .invalidCloseReason, .invalidText, .truncatedText, .invalidCompressedData, .truncatedCompressedData:
      .invalidPayload
    case .messageTooBig: .messageTooBig
    case .tooManyFragments: .policyViolation
    case .outOfMemory: .internalError
    }
  }
}

extension WebSocketProtocolError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .reservedOpcode(let opcode):
      "the peer sent a frame with the reserved opcode 0x\(String(opcode, radix: 16, uppercase: true))"
    case .reservedBits(let bits, let opcode):
      "the peer set \(bits) on a \(opcode) frame, which no negotiated extension allows"
    case .fragmentedControlFrame(let opcode):
      "the peer sent a fragmented \(opcode) frame; control frames must not be fragmented"
    case .controlFrameTooLong(let opcode):
      "the peer sent a \(opcode) frame longer than 125 bytes"
    case .unmaskedFrame: "the client sent an unmasked frame"
    case .maskedFrame: "the server sent a masked frame"
    case .nonMinimalLength(let length, let lengthBytes):
      "the peer encoded the frame length \(length) in \(lengthBytes) bytes, more than necessary"
    case .lengthOutOfRange(let length):
      "the peer announced a frame of \(length) bytes (limit 9223372036854775807)"
    case .unexpectedContinuation: "the peer sent a continuation frame without a message to continue"
    case .interruptedMessage(let opcode): "the peer started a \(opcode) message before finishing a fragmented one"
    case .truncatedCloseCode: "the peer sent a Close frame with 1 byte; a close code takes 2"
    case .invalidCloseCode(let code): "the peer sent the invalid close code \(code.rawValue)"
    case .invalidCloseReason: "the peer sent a close reason that is not valid UTF-8"
    case .invalidText: "the peer sent text that is not valid UTF-8"
    case .truncatedText: "the peer sent text that ends in the middle of a UTF-8 character"
    case .messageTooBig(let limit, let actual):
      "the peer sent a message of at least \(actual) bytes (limit \(limit))"
    case .tooManyFragments(let limit): "the peer sent a message in too many frames (limit \(limit))"
    case .invalidCompressedData: "the peer sent invalid compressed data"
    case .truncatedCompressedData: "the peer sent a truncated compressed message"
    case .outOfMemory: "not enough memory for a compression context"
    }
  }
}
