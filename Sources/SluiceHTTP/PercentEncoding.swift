import SluiceStreams

/// RFC 3986 §2.1.
package enum PercentEncoding {
  /// - Returns: nil if a `%` is not followed by two hexadecimal digits.
  package static func decode(_ text: WireText) -> [UInt8]? {
    var bytes: [UInt8] = []
    var rest = text
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard let high = rest.popFirst().flatMap(ASCII.hexDigit), let low = rest.popFirst().flatMap(ASCII.hexDigit) else {
        return nil
      }
      bytes.append(high << 4 | low)
    }
    return bytes
  }
}
