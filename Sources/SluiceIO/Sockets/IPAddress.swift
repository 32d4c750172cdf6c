import SluiceStreams

/// An IPv4 or IPv6 address as a number. An IPv4 address that is written as an IPv6 one (`::ffff:192.0.2.1`) is the IPv4 address.
public struct IPAddress: Sendable, Hashable, CustomStringConvertible {
  /// As an IPv6 address, an IPv4 one mapped (RFC 4291 §2.5.5.2).
  let number: UInt128
  private static let mappedPrefix: UInt128 = 0xFFFF << 32

  private init(number: UInt128) { self.number = number }

  /// From its usual text: "192.0.2.1", "2001:db8::1".
  /// - Returns: nil if it is none.
  public init?(_ text: String) {
    guard let address = SocketAddress(numeric: text, port: 0)?.ipAddress else { return nil }
    self = address
  }

  /// From a text of the wire: an address and nothing else, not even the zone that a system's own text may have (`fe80::1%eth0`).
  package init?(wire text: some Collection<UInt8>) {
    guard text.allSatisfy({ ASCII.hexDigit($0) != nil || $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: ".") }) else {
      return nil
    }
    self.init(text.text)
  }

  init(v4: UInt32) { number = Self.mappedPrefix | UInt128(v4) }

  init(v6: some Sequence<UInt8>) { number = v6.reduce(0) { $0 << 8 | UInt128($1) } }

  public var isIPv4: Bool { number >> 32 == Self.mappedPrefix >> 32 }

  /// As they are sent: 4 bytes or 16.
  package var bytes: [UInt8] {
    (0..<(isIPv4 ? 4 : 16)).reversed().map { UInt8(truncatingIfNeeded: number >> (8 * UInt128($0))) }
  }

  /// What one customer of a network provider has: the IPv4 address, or the first 64 bits of an IPv6 one.
  public var site: IPAddress { isIPv4 ? self : IPAddress(number: number & UInt128.max << 64) }

  public var description: String {
    if isIPv4 {
      return (0..<4).map { String(UInt8(truncatingIfNeeded: number >> (24 - 8 * $0))) }.joined(separator: ".")
    }
    return (0..<8).map { String(UInt16(truncatingIfNeeded: number >> (112 - 16 * $0)), radix: 16) }.joined(
      separator: ":")
  }
}

/// All addresses that begin with the same bits.
///
/// ```swift
/// let network = IPNetwork("10.0.0.0/8")
/// ```
public struct IPNetwork: Sendable, Hashable {
  private let first: UInt128
  private let mask: UInt128

  /// From an address and the number of its leading bits that count, "10.0.0.0/8", "2001:db8::/32", or one address alone.
  /// - Returns: nil if it is none.
  public init?(_ text: String) {
    let parts = text.wire.divided(at: UInt8(ascii: "/"))
    guard let address = IPAddress(parts?.before.text ?? text) else { return nil }
    let width = address.isIPv4 ? 32 : 128
    guard let bits = parts.map({ $0.behind.decimal }) ?? width, (0...width).contains(bits) else { return nil }
    mask = bits == 0 && width == 128 ? 0 : UInt128.max << (width - bits)
    first = address.number & mask
  }

  public func contains(_ address: IPAddress) -> Bool { address.number & mask == first }
}
