/// A masked frame as a client sends it, of any kind, right or wrong.
func frame(_ first: UInt8, _ payload: some Collection<UInt8> = []) -> [UInt8] {
  var bytes = header(first, length: payload.count)
  let start = bytes.count
  bytes += payload
  for index in start..<bytes.count { bytes[index] ^= key[(index - start) & 3] }
  return bytes
}

func frame(_ first: UInt8, _ text: String) -> [UInt8] { frame(first, text.utf8) }

/// The header of a masked frame, with its length in as few bytes as it needs.
func header(_ first: UInt8, length: Int) -> [UInt8] { [first] + lengthBytes(length, mask: 0x80) + key }

/// A frame as a server sends it.
func unmaskedFrame(_ first: UInt8, _ payload: some Collection<UInt8> = []) -> [UInt8] {
  [first] + lengthBytes(payload.count, mask: 0) + payload
}

func unmaskedFrame(_ first: UInt8, _ text: String) -> [UInt8] { unmaskedFrame(first, text.utf8) }

/// A server's Close frame with a code.
func close(_ code: UInt16, _ reason: String = "") -> [UInt8] { unmaskedFrame(0x88, bigEndian(code) + reason.utf8) }

func bigEndian(_ number: some FixedWidthInteger) -> [UInt8] {
  stride(from: number.bitWidth - 8, through: 0, by: -8).map { UInt8(truncatingIfNeeded: number >> $0) }
}

private let key: [UInt8] = [0x11, 0x22, 0x93, 0xF4]

private func lengthBytes(_ length: Int, mask: UInt8) -> [UInt8] {
  switch length {
  case ..<126: [mask | UInt8(length)]
  case ..<65536: [mask | 126] + bigEndian(UInt16(length))
  default: [mask | 127] + bigEndian(UInt64(length))
  }
}

/// "81 05 48" as bytes.
func hex(_ text: String) -> [UInt8] { text.split(separator: " ").compactMap { UInt8($0, radix: 16) } }
