import Testing

@testable import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

@Suite("IP addresses and networks")
struct IPAddressTests {
  @Test("a mapped address is the IPv4 address; a site is an IPv4 address or 64 bits")
  func sites() throws {
    #expect(try #require(IPAddress("::ffff:192.0.2.1")) == #require(IPAddress("192.0.2.1")))
    #expect(IPAddress("192.0.2.1")?.site == IPAddress("192.0.2.1"))
    #expect(IPAddress("2001:db8:0:1:2:3:4:5")?.site == IPAddress("2001:db8:0:1::"))
    #expect(IPAddress("192.0.2.1")?.description == "192.0.2.1")
    for text in ["", "192.0.2", "192.0.2.256", "example.com", "::g", "192.0.2.1:80"] { #expect(IPAddress(text) == nil) }
  }

  @Test(
    "an address is in a network or not",
    arguments: [
      ("10.0.0.0/8", "10.255.0.1", true), ("10.0.0.0/8", "11.0.0.1", false), ("192.0.2.1", "192.0.2.1", true),
      ("192.0.2.1", "192.0.2.2", false), ("0.0.0.0/0", "8.8.8.8", true), ("0.0.0.0/0", "2001:db8::1", false),
      ("2001:db8::/32", "2001:db8:ffff::1", true), ("2001:db8::/32", "2001:db9::1", false),
      ("::/0", "2001:db8::1", true),
      ("10.0.0.0/8", "::ffff:10.1.1.1", true),
    ])
  func networks(_ network: String, _ address: String, _ isInside: Bool) throws {
    #expect(try #require(IPNetwork(network)).contains(#require(IPAddress(address))) == isInside)
  }

  @Test(
    "texts of addresses are read as the system reads them",
    arguments: [
      "1.2.3.4", "01.2.3.4", "1.2.3.4.", ".1.2.3.4", "1..3.4", "1.2.3", "255.255.255.255", "256.1.1.1", "1.2.3.-4",
      "1.2.3.4 ", "0x1.2.3.4", "",
      "::", ":", ":::", "::1", "1::", "1:", ":1", "1::2::3", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7::",
      "::2:3:4:5:6:7:8", "1::3:4:5:6:7:8", "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8", "12345::", "g::", "::ffff:1.2.3.4",
      "::1.2.3", "::1.2.3.4:5",
      "1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4", "2001:DB8::a", "fe80:0:0:0:1:0:0:1", "0:0:1::", "1:0:0:2:0:0:0:3",
      "[::1]", "::1]",
    ])
  func textsAsTheSystemReadsThem(_ text: String) {
    var four = in_addr()
    var six = in6_addr()
    let system: [UInt8]? =
      if unsafe inet_pton(AF_INET, text, &four) == 1 {
        unsafe withUnsafeBytes(of: four) { unsafe Array($0) }
      } else if unsafe inet_pton(AF_INET6, text, &six) == 1 {
        unsafe withUnsafeBytes(of: six) { unsafe Array($0) }
      } else { nil }
    let address = IPAddress(text)
    #expect((address == nil) == (system == nil))
    guard let address, let system else { return }
    #expect(
      address == (system.count == 4 ? IPAddress(v4: system.reduce(0) { $0 << 8 | UInt32($1) }) : IPAddress(v6: system)))
    #expect(IPAddress(address.description) == address)
    if system.count == 4 || address.isIPv4 { return }
    var written = [CChar](repeating: 0, count: 64)
    let isWritten = unsafe inet_ntop(AF_INET6, &six, &written, 64) != nil
    #expect(isWritten)
    // Another text is as good where the system writes the last part as an IPv4 address.
    let theirs = String(decoding: written.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    if !theirs.contains(".") { #expect(address.description == theirs) }
  }

  @Test("an address with a zone is the address; a port is 0 to 65535")
  func zonesAndPorts() throws {
    let address = try #require(IPAddress("fe80::1"))
    #expect(IPAddress("fe80::1%eth0") == address && IPAddress(wire: "fe80::1%eth0".utf8) == nil)
    #expect(SocketAddress(address, port: 65_535)?.description == "[fe80::1]:65535")
    #expect(SocketAddress(address, port: 65_536) == nil && SocketAddress(address, port: -1) == nil)
  }

  @Test("what is no network is refused", arguments: ["10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "/8", "::/129", "x/8"])
  func malformed(_ text: String) { #expect(IPNetwork(text) == nil) }
}
