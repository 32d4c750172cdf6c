import SluiceStreams

/// The three bits that RFC 6455 §5.2 keeps for extensions.
public struct ReservedBits: OptionSet, Sendable, Hashable {
  /// The bits where they lie in a frame's first byte.
  public let rawValue: UInt8

  @inlinable
  public init(rawValue: UInt8) {
    self.rawValue = rawValue
  }

  /// Set by permessage-deflate on the first frame of a compressed message (RFC 7692 §6).
  public static let rsv1 = ReservedBits(rawValue: 0x40)
  public static let rsv2 = ReservedBits(rawValue: 0x20)
  public static let rsv3 = ReservedBits(rawValue: 0x10)
}

extension ReservedBits: CustomStringConvertible {
  public var description: String {
    let names = [(ReservedBits.rsv1, "RSV1"), (.rsv2, "RSV2"), (.rsv3, "RSV3")]
    return names.filter { contains($0.0) }.map(\.1).joined(separator: "+")
  }
}

/// What stands before a frame's payload (RFC 6455 §5.2).
public struct FrameHeader: Sendable, Hashable {
  /// Whether the message ends with this frame.
  public var isFinal: Bool
  public var reserved: ReservedBits
  public var opcode: Opcode
  /// What the payload is xored with; nil when it is sent as it is.
  public var maskingKey: MaskingKey?
  /// Bytes, 0 or more.
  public var payloadLength: Int

  @inlinable
  public init(
    _ opcode: Opcode, isFinal: Bool = true, reserved: ReservedBits = [], maskingKey: MaskingKey? = nil,
    payloadLength: Int
  ) {
    self.isFinal = isFinal
    self.reserved = reserved
    self.opcode = opcode
    self.maskingKey = maskingKey
    self.payloadLength = payloadLength
  }

  /// The longest header: 2 bytes, 8 of length, 4 of key.
  public static let maxEncodedLength = 14

  /// Bytes that the header takes on the wire: 2, 4 or 10, and 4 more with a key.
  @inlinable
  public var encodedLength: Int {
    Self.encodedLength(payloadLength: payloadLength, masked: maskingKey != nil)
  }

  /// Bytes that a header takes on the wire, with the length in as few as it needs.
  @inlinable
  public static func encodedLength(payloadLength: Int, masked: Bool) -> Int {
    let length = payloadLength <= 125 ? 2 : payloadLength <= 0xFFFF ? 4 : 10
    return masked ? length + 4 : length
  }
}
