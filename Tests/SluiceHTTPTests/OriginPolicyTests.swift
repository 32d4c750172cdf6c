import HTTPTypes
import SluiceHTTP
import Testing

@Suite("Origins (RFC 6455 §10.2, ATTACKS 32)")
struct OriginPolicyTests {
  @Test(
    "by default, pages of the host that is asked",
    arguments: [
      ("http://example.com", "example.com", true), ("https://example.com", "example.com", true),
      ("http://example.com:80", "example.com", true), ("https://EXAMPLE.com", "example.COM", true),
      ("http://example.com:8080", "example.com:8080", true), ("https://example.com", "example.com:443", true),
      ("http://[::1]:8080", "[::1]:8080", true),
      ("http://example.com", "example.com:8080", false), ("http://example.com:8080", "example.com", false),
      ("http://evil-example.com", "example.com", false), ("http://example.com.evil.org", "example.com", false),
      ("http://sub.example.com", "example.com", false), ("null", "example.com", false), ("", "example.com", false),
      ("http://127.0.0.1", "localhost", false), ("http://example.com/path", "example.com", false),
      ("http://user@example.com", "example.com", false), ("http://example.com:", "example.com", false),
      ("http://example.com:80x", "example.com", false), ("http://", "", false), ("http://[::1", "[::1", false),
      ("http://example.com:65535", "example.com:65535", true),
      ("http://example.com:655350", "example.com:655350", false),
      ("http://exam ple.com", "exam ple.com", false), ("http://example.com\u{7F}", "example.com\u{7F}", false),
      ("http://!example~.com", "!example~.com", true),
    ])
  func sameOrigin(_ origin: String, _ host: String, _ isAllowed: Bool) {
    #expect(OriginPolicy.sameOrigin.allows([origin], host: host) == isAllowed)
  }

  @Test("programs send no origin; two are none")
  func count() {
    #expect(OriginPolicy.sameOrigin.allows([], host: "example.com"))
    #expect(!OriginPolicy.sameOrigin.allows(["http://example.com", "http://example.com"], host: "example.com"))
    #expect(OriginPolicy.any.allows(["null", "x"], host: "example.com"))
  }

  @Test(
    "a list, with hosts below a domain",
    arguments: [
      ("https://app.example.com", true), ("https://a.b.wild.org", true), ("https://app.example.com:443", true),
      ("http://app.example.com", false), ("https://wild.org", false), ("https://evilwild.org", false),
      ("https://a.wild.org:8443", false), ("https://example.com", false), ("https://a.wild.org.evil.net", false),
    ])
  func list(_ origin: String, _ isAllowed: Bool) {
    let policy = OriginPolicy.only("https://app.example.com", "https://*.wild.org")
    #expect(policy.allows([origin], host: "example.com") == isAllowed)
    var request = HTTPRequest(method: .get, scheme: nil, authority: "example.com", path: "/")
    #expect(policy.allows(request))
    request.headerFields[.origin] = origin
    #expect(policy.allows(request) == isAllowed)
  }

  @Test(
    "attack 52: an origin is compared as bytes",
    arguments: [
      "https://\u{212A}.example", "https://k.example\u{301}", "https://k\u{301}.example", "https://k.example\u{A0}",
      "https://k.example:\u{0661}", "https://k.example\u{37E}", "https:/\u{338}/k.example", "https://\u{FF4B}.example",
    ])
  func bytes(origin: String) {
    #expect(OriginPolicy.sameOrigin.allows(["https://K.example"], host: "k.example"))
    #expect(!OriginPolicy.sameOrigin.allows([origin], host: "k.example"))
    #expect(!OriginPolicy.only("https://k.example", "https://*.example").allows([origin], host: "k.example"))
    #expect(!OriginPolicy.only(origin).allows([origin], host: "k.example"))
  }

  @Test(
    "what can match is told from what never can",
    arguments: [
      ("https://example.com", true), ("http://*.example.com:8080", true), ("http://[::1]:80", true), ("foo", false),
      ("example.com", false), ("https://example.com/", false), ("https://", false), ("null", false), ("*", false),
    ])
  func form(_ text: String, _ isOrigin: Bool) {
    #expect(OriginPolicy.isOrigin(text) == isOrigin)
  }
}
