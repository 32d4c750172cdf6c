import SluiceStreams

/// The one spelling of a path, which routes, guards and files see, however the client has written it:
///
/// - What may stand in a segment as it is (RFC 3986 §3.3: letters, digits and `-._~!$&'()*+,;=:@`) stands as it is, and everything else as `%` and two
///   capital hexadecimal digits. So `/%70rivate` is `/private`, and `%2f` is `%2F`: a slash within a segment, not one between two.
/// - The dot segments `.` and `..`, in whatever spelling, are resolved (§5.2.4); above the root there is nothing.
/// - Empty segments (`//`) and what follows a semicolon are parts of the path as all others are.
package enum RequestPath {
  /// - Parameter path: Without a query; begins with a slash.
  /// - Returns: nil if a `%` is not followed by two hexadecimal digits.
  package static func normalized(_ path: WireText) -> String? {
    if isNormal(path) { return path.text }
    var segments: [[UInt8]] = []
    let written = path.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    for (index, segment) in written.enumerated() {
      guard let bytes = PercentEncoding.decode(segment) else { return nil }
      let isDots = bytes.equals(".") || bytes.equals("..")
      if bytes.equals("..") { _ = segments.popLast() }
      if !isDots {
        segments.append(bytes)
      } else if index == written.count - 1 {
        // What is left is a folder.
        segments.append([])
      }
    }
    return segments.map { "/" + encoded($0) }.joined()
  }

  /// Most are: no encoded byte, no byte to encode, and no segment that begins with a dot.
  private static func isNormal(_ path: WireText) -> Bool {
    var last: UInt8 = 0
    for byte in path {
      if byte == UInt8(ascii: ".") && last == UInt8(ascii: "/") { return false }
      guard byte == UInt8(ascii: "/") || isSegmentCharacter(byte) else { return false }
      last = byte
    }
    return true
  }

  /// One segment as it is spelled.
  package static func encoded(_ segment: some Collection<UInt8>) -> String {
    var text: [UInt8] = []
    for byte in segment {
      if isSegmentCharacter(byte) {
        text.append(byte)
      } else {
        text.append(UInt8(ascii: "%"))
        text.append(digits[Int(byte >> 4)])
        text.append(digits[Int(byte & 15)])
      }
    }
    return text.text
  }

  private static let digits = Array("0123456789ABCDEF".utf8)

  /// RFC 3986 §3.3: `pchar`, but for what is encoded.
  private static func isSegmentCharacter(_ byte: UInt8) -> Bool {
    ASCII.isLetter(byte) || ASCII.isDigit(byte) || "-._~!$&'()*+,;=:@".utf8.contains(byte)
  }
}
