/// The texts of addresses, read as strictly as `inet_pton` does.
enum IPAddressText {
  private static let colon = UInt8(ascii: ":")
  private static let dot = UInt8(ascii: ".")

  /// Four decimal numbers without leading zeros.
  static func ipv4(_ text: WireText) -> UInt32? {
    let parts = text.split(separator: dot, omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var number: UInt32 = 0
    for part in parts {
      guard part.count <= 3, part.count == 1 || part.first != UInt8(ascii: "0"), let value = part.decimal, value <= 255
      else { return nil }
      number = number << 8 | UInt32(value)
    }
    return number
  }

  static func ipv4(_ number: UInt32) -> String {
    (0..<4).map { String(UInt8(truncatingIfNeeded: number >> (24 - 8 * $0))) }.joined(separator: ".")
  }

  /// RFC 4291 §2.2: eight groups, of which one run of zeros may be left out, and the last two may stand as an IPv4 address.
  static func ipv6(_ text: WireText) -> UInt128? {
    var groups: [UInt16] = []
    /// The number of groups that stand before the two colons.
    var gap: Int?
    var rest = text
    if rest.begins(with: "::") {
      gap = 0
      rest = rest.dropFirst(2)
    }
    while !rest.isEmpty {
      let group = rest.prefix { $0 != colon }
      rest = rest[group.endIndex...]
      if group.contains(dot) {
        guard rest.isEmpty, let number = ipv4(group) else { return nil }
        groups += [UInt16(number >> 16), UInt16(truncatingIfNeeded: number)]
        break
      }
      guard (1...4).contains(group.count), let value = hexadecimal(group) else { return nil }
      groups.append(value)
      if groups.count > 8 { return nil }
      if rest.begins(with: "::") {
        guard gap == nil else { return nil }
        gap = groups.count
        rest = rest.dropFirst(2)
      } else if !rest.isEmpty {
        rest = rest.dropFirst()
        if rest.isEmpty { return nil }
      }
    }
    guard gap == nil ? groups.count == 8 : groups.count < 8 else { return nil }
    let before = groups.prefix(gap ?? 8)
    let zeros = repeatElement(UInt16(0), count: 8 - groups.count)
    return (Array(before) + zeros + groups.dropFirst(before.count)).reduce(0) { $0 << 16 | UInt128($1) }
  }

  private static func hexadecimal(_ group: WireText) -> UInt16? {
    var value: UInt16 = 0
    for byte in group {
      guard let digit = ASCII.hexDigit(byte) else { return nil }
      value = value << 4 | UInt16(digit)
    }
    return value
  }

  /// RFC 5952 §4: the first of the longest runs of two zeros or more is left out.
  static func ipv6(_ number: UInt128) -> String {
    let groups = (0..<8).map { UInt16(truncatingIfNeeded: number >> (112 - 16 * $0)) }
    var longest = 0..<0
    var start = 0
    for index in 0...8 where index == 8 || groups[index] != 0 {
      if index - start > longest.count { longest = start..<index }
      start = index + 1
    }
    func text(_ groups: ArraySlice<UInt16>) -> String {
      groups.map { String($0, radix: 16) }.joined(separator: ":")
    }
    if longest.count < 2 { return text(groups[...]) }
    return text(groups[..<longest.lowerBound]) + "::" + text(groups[longest.upperBound...])
  }
}
