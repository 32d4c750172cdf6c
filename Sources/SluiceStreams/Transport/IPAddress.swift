/// An IPv4 or IPv6 address as a number. An IPv4 address that is written as an IPv6 one (`::ffff:192.0.2.1`) is the IPv4 address.
public struct IPAddress: Sendable, Hashable, CustomStringConvertible {
  /// As an IPv6 address, an IPv4 one mapped (RFC 4291 §2.5.5.2).
  let number: UInt128
  private static let mappedPrefix: UInt128 = 0xFFFF << 32

  private init(number: UInt128) { self.number = number }

  /// From its usual text: "192.0.2.1", "2001:db8::1"; of an IPv6 address with a zone, as in "fe80::1%eth0", the address.
  /// - Returns: nil if it is none.
  public init?(_ text: String) {
    let text = text.wire
    let number =
      IPAddressText.ipv4(text).map { Self.mappedPrefix | UInt128($0) }
      ?? IPAddressText.ipv6(text.prefix { $0 != UInt8(ascii: "%") })
    guard let number else { return nil }
    self.number = number
  }

  /// From a text of the wire: an address and nothing else, not even a zone.
  package init?(wire text: some Collection<UInt8>) {
    if text.contains(UInt8(ascii: "%")) { return nil }
    self.init(text.text)
  }

  package init(v4: UInt32) { number = Self.mappedPrefix | UInt128(v4) }

  package init(v6: some Sequence<UInt8>) { number = v6.reduce(0) { $0 << 8 | UInt128($1) } }

  public var isIPv4: Bool { number >> 32 == Self.mappedPrefix >> 32 }

  /// As they are sent: 4 bytes or 16.
  package var bytes: [UInt8] {
    (0..<(isIPv4 ? 4 : 16)).reversed().map { UInt8(truncatingIfNeeded: number >> (8 * UInt128($0))) }
  }

  /// What one customer of a network provider has: the IPv4 address, or the first 64 bits of an IPv6 one.
  public var site: IPAddress { isIPv4 ? self : IPAddress(number: number & UInt128.max << 64) }

  /// As others write it; of an IPv6 address, the longest run of zeros is left out (RFC 5952).
  public var description: String {
    isIPv4 ? IPAddressText.ipv4(UInt32(truncatingIfNeeded: number)) : IPAddressText.ipv6(number)
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
