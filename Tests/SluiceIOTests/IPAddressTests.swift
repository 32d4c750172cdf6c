import SluiceIO
import Testing

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

  @Test("what is no network is refused", arguments: ["10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "/8", "::/129", "x/8"])
  func malformed(_ text: String) { #expect(IPNetwork(text) == nil) }
}
