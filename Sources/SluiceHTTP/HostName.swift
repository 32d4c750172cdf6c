import SluiceStreams

/// What a host may be called, in a URL and elsewhere.
package enum HostName {
  /// The host of a URL (RFC 3986 §3.2.2: a registered name or an IPv4 address), its percent-encoded characters decoded.
  /// - Throws: `URLError`, which says what to write instead.
  package static func decode(_ text: WireText) throws(URLError) -> String {
    guard let bytes = PercentEncoding.decode(text) else {
      throw URLError("invalid percent-encoding in the host")
    }
    let host = bytes.text
    if host.isEmpty { throw URLError("the host is missing") }
    guard bytes.allSatisfy({ $0 < 0x80 }) else { throw outsideASCII(host) }
    guard bytes.allSatisfy({ HTTPSyntax.isHostCharacter($0) && $0 != UInt8(ascii: "%") }) else {
      throw URLError("invalid host name '\(host.escapingControls)'")
    }
    return host
  }

  /// Looks at a name or an address that did not come in a URL: an IPv6 one has no brackets, and may have a zone ("fe80::1%eth0").
  /// - Throws: `URLError`: a name that another program would cut (at a NUL), or misread (a space, a slash), is not a host.
  package static func check(_ host: String) throws(URLError) {
    if host.isEmpty { throw URLError("the host is missing") }
    guard host.utf8.allSatisfy({ $0 < 0x80 }) else { throw outsideASCII(host) }
    guard host.utf8.allSatisfy({ HTTPSyntax.isHostCharacter($0) || $0 == UInt8(ascii: ":") }) else {
      throw URLError("invalid host name '\(host.escapingControls)'")
    }
  }

  private static func outsideASCII(_ host: String) -> URLError {
    let name = "the host '\(host.escapingControls)' contains non-ASCII characters; use"
    guard let ascii = ascii(host) else {
      return URLError("\(name) its IDNA form (xn--…), which idn2 prints")
    }
    return URLError("\(name) its IDNA form '\(ascii)'")
  }

  /// The name in ASCII, where that takes no more than small letters and Punycode. What IDNA (RFC 5891, UTS #46) maps or refuses needs its
  /// tables.
  /// - Returns: nil if it takes more.
  static func ascii(_ host: String) -> String? {
    let lowercase = host.unicodeScalars.reduce(into: "") { $0 += $1.properties.lowercaseMapping }
    var labels: [String] = []
    for label in lowercase.unicodeScalars.split(omittingEmptySubsequences: false, whereSeparator: { $0.value == 0x2E })
    {
      guard label.count <= 63, label.allSatisfy({ $0.value < 0x80 || isPlain($0) }) else { return nil }
      let isASCII = label.allSatisfy { $0.value < 0x80 }
      labels.append(isASCII ? String(label) : "xn--" + Punycode.encode(label.map(\.value)))
    }
    return labels.joined(separator: ".")
  }

  /// A letter that nothing maps to another.
  private static func isPlain(_ scalar: Unicode.Scalar) -> Bool {
    let properties = scalar.properties
    return [.lowercaseLetter, .otherLetter].contains(properties.generalCategory)
      && properties.canonicalCombiningClass == .notReordered && !properties.changesWhenNFKCCaseFolded
  }
}

/// RFC 3492.
private enum Punycode {
  private static let (base, tmin, tmax, skew, damp) = (36, 1, 26, 38, 700)

  /// - Parameter label: The code points of one label, 63 at the most, which keeps all numbers small.
  static func encode(_ label: [UInt32]) -> String {
    let basic = label.filter { $0 < 0x80 }
    var output = basic.map { UInt8(truncatingIfNeeded: $0) }
    if !basic.isEmpty { output.append(UInt8(ascii: "-")) }
    var (codePoint, delta, bias, handled) = (UInt32(0x80), 0, 72, basic.count)
    while handled < label.count {
      let next = label.filter { $0 >= codePoint }.min() ?? codePoint
      delta += Int(next - codePoint) * (handled + 1)
      codePoint = next
      for point in label {
        if point < codePoint { delta += 1 }
        guard point == codePoint else { continue }
        append(delta, bias, to: &output)
        bias = adapt(delta, count: handled + 1, isFirst: handled == basic.count)
        delta = 0
        handled += 1
      }
      delta += 1
      codePoint += 1
    }
    return output.text
  }

  /// §6.3: a number in digits of growing weight.
  private static func append(_ number: Int, _ bias: Int, to output: inout [UInt8]) {
    var rest = number
    var k = base
    while true {
      let threshold = min(max(k - bias, tmin), tmax)
      if rest < threshold { break }
      output.append(digit(threshold + (rest - threshold) % (base - threshold)))
      rest = (rest - threshold) / (base - threshold)
      k += base
    }
    output.append(digit(rest))
  }

  private static func digit(_ value: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: value < 26 ? value + 0x61 : value - 26 + 0x30)
  }

  /// §6.1.
  private static func adapt(_ delta: Int, count: Int, isFirst: Bool) -> Int {
    var delta = isFirst ? delta / damp : delta / 2
    delta += delta / count
    var k = 0
    while delta > (base - tmin) * tmax / 2 {
      delta /= base - tmin
      k += base
    }
    return k + (base - tmin + 1) * delta / (delta + skew)
  }
}
