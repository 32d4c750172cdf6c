import HTTPTypes
import SluiceStreams

/// The hops that a request came over, as its proxies wrote them down: the last one first, which the nearest proxy has written. What stands before an
/// entry is that entry's own word, down to the client, who may write anything.
struct ForwardedChain: Sequence {
  /// nil where the entry names no address: "unknown", a hidden name, or nothing that can be read.
  typealias Element = IPAddress?

  private let fields: [String]
  private let isStandard: Bool

  /// - Returns: nil if the request has no such field.
  init?(_ request: HTTPRequest, _ kind: ForwardedFields) {
    func values(_ name: String) -> [String] {
      request.headerFields.compactMap { $0.name.canonicalName == name ? $0.value : nil }
    }
    let ours = kind == .forwarded ? [] : values("x-forwarded-for")
    isStandard = ours.isEmpty && kind != .xForwardedFor
    fields = isStandard ? values("forwarded") : ours
    if fields.isEmpty { return nil }
  }

  func makeIterator() -> some IteratorProtocol<IPAddress?> {
    let isStandard = isStandard
    var rest = fields.map(\.wire)
    return AnyIterator {
      while let field = rest.popLast() {
        let (before, element) = Self.takeLast(from: field, quoted: isStandard)
        if let before { rest.append(before) }
        if element.isEmpty { continue }
        return .some(isStandard ? Self.standardNode(element) : Self.node(element))
      }
      return nil
    }
  }

  /// The list's last element, found from its end: an open quote that a client has sent swallows nothing of what its proxy put behind it.
  private static func takeLast(from field: WireText, quoted: Bool) -> (before: WireText?, element: WireText) {
    var isQuoted = false
    var index = field.endIndex
    while index > field.startIndex {
      index = field.index(before: index)
      if quoted, field[index] == UInt8(ascii: "\"") {
        let escapes = field[..<index].reversed().prefix { $0 == UInt8(ascii: "\\") }.count
        if escapes % 2 == 0 { isQuoted.toggle() }
      } else if field[index] == UInt8(ascii: ","), !isQuoted {
        return (field[..<index], field[index...].dropFirst().trimmingBlanks)
      }
    }
    return (nil, field.trimmingBlanks)
  }

  /// RFC 7239 §4: pairs with semicolons between, of which one is `for`.
  private static func standardNode(_ element: WireText) -> IPAddress? {
    var found: WireText?
    for pair in element.split(outsideQuotes: UInt8(ascii: ";")) {
      guard let (name, value) = pair.trimmingBlanks.divided(at: UInt8(ascii: "=")), name.isToken else { return nil }
      guard name.equalsIgnoringCase("for") else { continue }
      if found != nil { return nil }
      found = value
    }
    guard let value = found else { return nil }
    // An address with its port is no token, and is written without quotes nevertheless.
    return value.first == UInt8(ascii: "\"") ? value.unquoted.flatMap { node($0.wire) } : node(value)
  }

  /// An address, perhaps with a port: "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80".
  private static func node(_ text: WireText) -> IPAddress? {
    let colon = UInt8(ascii: ":")
    if text.first == UInt8(ascii: "[") {
      guard let (inside, behind) = text.dropFirst().divided(at: UInt8(ascii: "]")), inside.contains(colon),
        behind.isEmpty || (behind.first == colon && isPort(behind.dropFirst()))
      else { return nil }
      return IPAddress(wire: inside)
    }
    guard let (address, port) = text.divided(at: colon), !port.contains(colon) else { return IPAddress(wire: text) }
    return isPort(port) ? IPAddress(wire: address) : nil
  }

  /// §6.2, §6.3: up to five digits, or a name that begins with an underscore.
  private static func isPort(_ text: WireText) -> Bool {
    if text.first == UInt8(ascii: "_") { return text.isToken }
    return text.count <= 5 && text.decimal.map { $0 <= 65_535 } ?? false
  }
}
