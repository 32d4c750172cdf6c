import SluiceStreams

/// Reads frame headers, strictly (RFC 6455 §5.2).
///
/// ```swift
/// let parser = FrameHeaderParser(role: .client)
/// let header = try parser.parse(([0x81, 0x05] as [UInt8]).span, at: 0)   // text, final, 5 bytes
/// ```
public struct FrameHeaderParser: Sendable {
  /// Which end reads: a server wants masks, a client wants none.
  public let role: WebSocketRole
  /// The bits that negotiated extensions set on the first frame of a message.
  public let allowedReservedBits: ReservedBits

  public init(role: WebSocketRole, allowedReservedBits: ReservedBits = []) {
    self.role = role
    self.allowedReservedBits = allowedReservedBits
  }

  /// The header that begins at `position`, if all of it is there. It takes `encodedLength` bytes of the input.
  ///
  /// What the first two bytes show to be wrong fails before any other byte has come.
  /// - Parameter position: 0 to `input.count`.
  /// - Returns: nil when more bytes are needed.
  public func parse(_ input: Span<UInt8>, at position: Int) throws(WebSocketProtocolError) -> FrameHeader? {
    let available = input.count - position
    guard available >= 2 else { return nil }
    let first = input[position]
    let second = input[position + 1]

    guard let opcode = Opcode(rawValue: first & 0x0F) else { throw .reservedOpcode(first & 0x0F) }
    let isFinal = first & 0x80 != 0
    let reserved = ReservedBits(rawValue: first & 0x70)
    // RFC 7692 §6.1: only the first frame of a message carries an extension's bit.
    let allowed = opcode == .text || opcode == .binary ? allowedReservedBits : []
    guard reserved.isSubset(of: allowed) else { throw .reservedBits(reserved.subtracting(allowed), opcode) }

    // RFC 6455 §5.1: a client masks, a server does not.
    let isMasked = second & 0x80 != 0
    if isMasked != (role == .server) { throw isMasked ? .maskedFrame : .unmaskedFrame }

    let code = second & 0x7F
    if opcode.isControl {
      guard isFinal else { throw .fragmentedControlFrame(opcode) }
      guard code <= 125 else { throw .controlFrameTooLong(opcode) }
    }

    let lengthBytes = code <= 125 ? 0 : code == 126 ? 2 : 8
    let keyBytes = isMasked ? 4 : 0
    // A length is judged as soon as it is there, before the key.
    guard available >= 2 + lengthBytes else { return nil }
    let length = try payloadLength(code, lengthBytes, input, at: position + 2)
    guard available >= 2 + lengthBytes + keyBytes else { return nil }
    let key = isMasked ? MaskingKey(input, at: position + 2 + lengthBytes) : nil
    return FrameHeader(opcode, isFinal: isFinal, reserved: reserved, maskingKey: key, payloadLength: length)
  }

  /// RFC 6455 §5.2: the minimal number of bytes must be used, and the most significant bit of 64 must be 0.
  private func payloadLength(
    _ code: UInt8, _ lengthBytes: Int, _ input: Span<UInt8>, at position: Int
  ) throws(WebSocketProtocolError) -> Int {
    if lengthBytes == 0 { return Int(code) }
    var length: UInt64 = 0
    for index in 0..<lengthBytes { length = length &<< 8 | UInt64(input[position + index]) }
    if length <= (lengthBytes == 2 ? 125 : 0xFFFF) { throw .nonMinimalLength(length, lengthBytes: lengthBytes) }
    guard let payloadLength = Int(exactly: length) else { throw .lengthOutOfRange(length) }
    return payloadLength
  }
}

extension MaskingKey {
  /// The four bytes at `position`, which must be there.
  @inlinable
  init(_ input: Span<UInt8>, at position: Int) {
    precondition(position >= 0 && position <= input.count &- 4, "no key")
    self.init(
      word: unsafe input.withUnsafeBytes { unsafe $0.loadUnaligned(fromByteOffset: position, as: UInt32.self) })
  }
}

/// Whether a message is under way, and what may come next (RFC 6455 §5.4).
@usableFromInline
enum FragmentationState: Sendable {
  case betweenMessages
  case insideMessage(MessageKind, ReservedBits)

  /// Takes the header of a data frame.
  /// - Returns: what the message is, and whether the frame begins it.
  mutating func accept(
    _ header: FrameHeader
  ) throws(WebSocketProtocolError) -> (kind: MessageKind, reserved: ReservedBits, isFirst: Bool) {
    switch self {
    case .betweenMessages:
      guard header.opcode != .continuation else { throw .unexpectedContinuation }
      let kind = header.opcode == .text ? MessageKind.text : .binary
      if !header.isFinal { self = .insideMessage(kind, header.reserved) }
      return (kind, header.reserved, true)
    case .insideMessage(let kind, let reserved):
      guard header.opcode == .continuation else { throw .interruptedMessage(by: header.opcode) }
      if header.isFinal { self = .betweenMessages }
      return (kind, reserved, false)
    }
  }
}
