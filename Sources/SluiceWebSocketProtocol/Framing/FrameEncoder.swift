import SluiceStreams

extension BytesBuilder {
  /// Appends a frame's header, with the length in as few bytes as it needs (RFC 6455 §5.2).
  ///
  /// The payload follows: as it is, or masked with the header's key.
  @inlinable
  public mutating func append(_ header: FrameHeader) {
    let length = header.payloadLength
    let first = (header.isFinal ? 0x80 : 0) | header.reserved.rawValue | header.opcode.rawValue
    if length <= 125, header.maskingKey == nil {
      append(bigEndian: first, UInt8(truncatingIfNeeded: length))
    } else {
      appendLong(header, first)
    }
  }

  @inlinable
  @inline(__always)
  mutating func append(bigEndian first: UInt8, _ second: UInt8) {
    unsafe appendUninitialized(2) {
      unsafe $0[0] = first
      unsafe $0[1] = second
    }
  }

  /// A header of 4 to 14 bytes.
  @usableFromInline
  mutating func appendLong(_ header: FrameHeader, _ first: UInt8) {
    let length = header.payloadLength
    let maskBit: UInt8 = header.maskingKey == nil ? 0 : 0x80
    reserve(FrameHeader.maxEncodedLength)
    if length <= 125 {
      append(bigEndian: first, maskBit | UInt8(truncatingIfNeeded: length))
    } else if length <= 0xFFFF {
      append(bigEndian: first, maskBit | 126)
      append(bigEndian: UInt16(truncatingIfNeeded: length))
    } else {
      append(bigEndian: first, maskBit | 127)
      append(bigEndian: UInt64(length))
    }
    if let key = header.maskingKey {
      append(bigEndian: UInt32(bigEndian: key.word))
    }
  }
}

/// Writes frames; a client's are masked, each with a key of its own.
///
/// ```swift
/// var encoder = FrameEncoder(role: .server)
/// var output = BytesBuilder()
/// encoder.append(.text, payload: Bytes("Hello").span, to: &output)   // 81 05 48 65 6c 6c 6f
/// ```
public struct FrameEncoder: ~Copyable, Sendable {
  public let role: WebSocketRole
  private let keys: ClientKeys?

  /// Out of line, so that a server's encoder does not hold room for keys.
  private final class ClientKeys: @unchecked Sendable {  // one encoder owns it, which can't be copied
    var source = MaskingKeySource()
  }

  public init(role: WebSocketRole) {
    self.role = role
    keys = role == .client ? ClientKeys() : nil
  }

  /// Appends a header; the caller appends the payload, masked with the key that is returned.
  /// - Returns: nil if the payload is sent as it is.
  @discardableResult
  public mutating func appendHeader(
    _ opcode: Opcode, isFinal: Bool = true, reserved: ReservedBits = [], payloadLength: Int,
    to output: inout BytesBuilder
  ) -> MaskingKey? {
    let key = keys?.source.next()
    output.append(
      FrameHeader(opcode, isFinal: isFinal, reserved: reserved, maskingKey: key, payloadLength: payloadLength))
    return key
  }

  /// Appends a whole frame.
  public mutating func append(
    _ opcode: Opcode, isFinal: Bool = true, reserved: ReservedBits = [], payload: Span<UInt8>,
    to output: inout BytesBuilder
  ) {
    let key = appendHeader(
      opcode, isFinal: isFinal, reserved: reserved, payloadLength: payload.count, to: &output)
    if let key {
      output.append(payload, masking: key)
    } else {
      output.append(payload)
    }
  }

  /// Bytes that a header takes on the wire.
  @inlinable
  public static func headerLength(payloadLength: Int, masked: Bool) -> Int {
    FrameHeader.encodedLength(payloadLength: payloadLength, masked: masked)
  }
}
