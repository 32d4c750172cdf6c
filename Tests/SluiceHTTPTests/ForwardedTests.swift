import HTTPTypes
import SluiceStreams
import Testing

@testable import SluiceHTTP

/// Attack 55. The proxies are those of 10.0.0.0/8 and fd00::/8, the peer is one of them.
@Suite("Where a request comes from behind proxies")
struct ForwardedTests {
  private func client(_ fields: [(String, String)], _ kind: ForwardedFields = .either) throws -> IPAddress? {
    let counter = ConnectionCounter(
      maxConnections: 10, maxPerAddress: nil,
      trustedProxies: [try #require(IPNetwork("10.0.0.0/8")), try #require(IPNetwork("fd00::/8"))],
      forwardedFields: kind)
    var request = HTTPRequest(method: .get, scheme: "http", authority: "x", path: "/")
    for (name, value) in fields {
      request.headerFields.append(HTTPField(name: try #require(HTTPField.Name(name)), value: value))
    }
    return counter.client(of: request, from: try #require(IPAddress("10.0.0.1")))
  }

  private static let lists: [(String, String?)] = [
    ("192.0.2.1", "192.0.2.1"), ("6.6.6.6, 192.0.2.1", "192.0.2.1"), ("192.0.2.1, 10.0.0.2", "192.0.2.1"),
    ("192.0.2.1:1234", "192.0.2.1"), ("2001:db8::1", "2001:db8::1"), ("[2001:db8::1]", "2001:db8::1"),
    ("[2001:db8::1]:443", "2001:db8::1"), ("::ffff:192.0.2.1", "192.0.2.1"),
    ("\t192.0.2.1 \t,\t10.0.0.2\t", "192.0.2.1"),
    ("192.0.2.1,,10.0.0.2, ,", "192.0.2.1"), ("192.0.2.1, [fd00::2]:80, 10.0.0.2:80", "192.0.2.1"),
    // All are ours: the farthest is where it began.
    ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
    // Only a proxy's own entry can be unreadable to it; what the client wrote is not looked at.
    ("unknown", nil), ("_hidden", nil), ("192.0.2.1, unknown", nil), ("unknown, 192.0.2.1", "192.0.2.1"),
    ("junk, 10.0.0.2", nil),
    ("192.0.2.1:", nil), ("192.0.2.1:65536", nil), ("192.0.2.1:99999999999999999999", nil), ("192.0.2.1:1:2", nil),
    ("[192.0.2.1]", nil),
    ("[2001:db8::1", nil), ("2001:db8::1]", nil), ("[2001:db8::1]x", nil), ("[2001:db8::1]:", nil),
    ("[2001:db8::1]:x", nil), ("[]", nil),
    ("fe80::1%eth0", nil), ("[fe80::1%25eth0]", nil), ("192.0.2.1 192.0.2.2", nil), ("192.0.2", nil),
    ("0x7f.0.0.1", nil), ("192.0.2.01", nil),
    ("192.0.2.1\u{A0}", nil), ("192.0.2.1\u{301}", nil), ("192.0.2.\u{661}", nil), ("\u{85}192.0.2.1", nil),
    ("192.0.2.1/32", nil),
    // A combining character makes the comma before it no other character.
    ("6.6.6.6\u{600}, 192.0.2.1", "192.0.2.1"), ("6.6.6.6,\u{301} 192.0.2.1", nil),
    ("6.6.6.6\u{200D},192.0.2.1", "192.0.2.1"),
    // An open quote neither.
    ("\"6.6.6.6, 192.0.2.1", "192.0.2.1"), (",", "10.0.0.1"),
  ]

  @Test("X-Forwarded-For: a list of addresses, with ports and brackets", arguments: lists)
  func xForwardedFor(list: String, expected: String?) throws {
    #expect(try client([("X-Forwarded-For", list)]) == expected.flatMap { IPAddress($0) })
    #expect(
      try client([("X-Forwarded-For", "6.6.6.6"), ("X-FORWARDED-FOR", list)], .xForwardedFor)
        == expected.flatMap {
          $0 == "10.0.0.1" || $0 == "10.0.0.3" ? IPAddress("6.6.6.6") : IPAddress($0)
        })
    #expect(try client([("X-Forwarded-For", list)], .forwarded) == IPAddress("10.0.0.1"))
  }

  @Test(
    "Forwarded: the same with its grammar (RFC 7239 §4)",
    arguments: [
      ("for=192.0.2.1", "192.0.2.1"), ("For=\"192.0.2.1\"", "192.0.2.1"), ("for=\"[2001:db8::1]:4711\"", "2001:db8::1"),
      ("by=10.0.0.1;FOR=192.0.2.1;proto=http", "192.0.2.1"), ("by=\"x;for=6.6.6.6, y\" ; for=192.0.2.1", "192.0.2.1"),
      ("for=6.6.6.6, for=192.0.2.1", "192.0.2.1"), ("for=192.0.2.1, for=10.0.0.2", "192.0.2.1"),
      ("for=192.0.2.1:80", "192.0.2.1"),
      ("for=\"192.0.2.1:_port\"", "192.0.2.1"), ("for=\"\\1\\92.0.2.1\"", "192.0.2.1"), ("for=unknown", nil),
      ("for=_secret", nil),
      ("for=unknown, for=192.0.2.1", "192.0.2.1"), ("by=10.0.0.1", nil), ("for=192.0.2.1;for=192.0.2.2", nil),
      ("for", nil), ("for=", nil),
      ("for=\"192.0.2.1", nil), ("for=192.0.2.1\"", nil), ("192.0.2.1", nil), ("for =192.0.2.1", nil),
      ("for=\"\"", nil),
      ("f\u{F6}r=192.0.2.1", nil), ("for=192.0.2.1\u{301}", nil), ("for=2001:db8::1", "2001:db8::1"),
      // What a client leaves open swallows nothing of what its proxy put behind it.
      ("for=\"6.6.6.6, for=192.0.2.1", "192.0.2.1"), ("for=\"6.6.6.6\\, for=\"[2001:db8::1]:80\"", "2001:db8::1"),
      ("\", for=192.0.2.1;by=\"x\"", "192.0.2.1"), ("for=6.6.6.6\u{600}, for=192.0.2.1", "192.0.2.1"),
    ] as [(String, String?)])
  func forwarded(list: String, expected: String?) throws {
    #expect(try client([("Forwarded", list)]) == expected.flatMap { IPAddress($0) })
    #expect(
      try client([("Forwarded", "for=6.6.6.6"), ("forwarded", list)], .forwarded) == expected.flatMap { IPAddress($0) })
    #expect(try client([("Forwarded", list)], .xForwardedFor) == IPAddress("10.0.0.1"))
  }

  @Test("of both fields, the one that the proxies write counts, whatever a client puts into the other")
  func both() throws {
    let fields = [("Forwarded", "for=192.0.2.1"), ("X-Forwarded-For", "192.0.2.2")]
    #expect(try client(fields) == IPAddress("192.0.2.2"))
    #expect(try client(fields, .xForwardedFor) == IPAddress("192.0.2.2"))
    #expect(try client(fields, .forwarded) == IPAddress("192.0.2.1"))
    #expect(try client([]) == IPAddress("10.0.0.1"))
  }

  @Test("long lists take linear time", .timeLimit(.minutes(1)))
  func linear() throws {
    for unit in [",", "10.0.0.2,", "\"", "\\", "\",", "for=10.0.0.2,"] {
      for kind in [ForwardedFields.xForwardedFor, .forwarded] {
        _ = try client(
          [
            ("X-Forwarded-For", String(repeating: unit, count: 50_000)),
            ("Forwarded", String(repeating: unit, count: 50_000)),
          ], kind)
      }
    }
  }

  @Test("requests that a proxy passes on move the connection's place: an unknown client has none of an address")
  func places() throws {
    let counter = ConnectionCounter(
      maxConnections: 10, maxPerAddress: 1, trustedProxies: [try #require(IPNetwork("10.0.0.0/8"))])
    func admission() throws -> Admission {
      var admission = Admission(counter: counter, peer: IPAddress("10.0.0.1"))
      try admission.enter()
      return admission
    }
    func request(_ list: String?) -> HTTPRequest {
      var request = HTTPRequest(method: .get, scheme: "http", authority: "x", path: "/")
      if let list, let name = HTTPField.Name("X-Forwarded-For") { request.headerFields[name] = list }
      return request
    }
    let (one, two) = (try admission(), try admission())
    try one.check(request("192.0.2.1"))
    #expect(one.slot?.address == IPAddress("192.0.2.1"))
    #expect(throws: RequestRejection.self) { try two.check(request("192.0.2.1:80")) }
    try one.check(request("unknown"))
    #expect(one.slot?.address == nil)
    try two.check(request("192.0.2.1"))
    // The proxy's own requests are not counted for it.
    try one.check(request(nil))
    #expect(one.slot?.address == IPAddress("10.0.0.1"))
    try two.check(request(nil))
  }
}
