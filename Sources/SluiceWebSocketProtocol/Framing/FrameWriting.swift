import SluiceStreams

extension BytesBuilder {
  /// Appends a frame, with its payload masked if the header has a key.
  ///
  /// ```swift
  /// var output = BytesBuilder()
  /// output.append(FrameHeader(.text, payloadLength: 5), "Hello".utf8.span)   // 81 05 48 65 6c 6c 6f
  /// ```
  /// - Parameter payload: As many bytes as the header says.
  @inlinable
  public mutating func append(_ header: FrameHeader, _ payload: Span<UInt8>) {
    append(header)
    if let key = header.maskingKey { append(payload, masking: key) } else { append(payload) }
  }

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
