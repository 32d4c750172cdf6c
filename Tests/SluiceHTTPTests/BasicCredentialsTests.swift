import HTTPTypes
import Testing

@testable import SluiceHTTP

@Suite("Basic credentials (RFC 7617)")
struct BasicCredentialsTests {
  private func request(_ authorization: String...) -> HTTPRequest {
    var request = HTTPRequest(method: .get, scheme: "http", authority: "x", path: "/")
    for value in authorization { request.headerFields.append(HTTPField(name: .authorization, value: value)) }
    return request
  }

  @Test("a request has them or not")
  func matches() throws {
    let credentials = try #require(BasicCredentials(user: "Aladdin", password: "open sesame"))
    #expect(credentials.field == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
    #expect(credentials.matches(request(credentials.field)))
    #expect(credentials.matches(request("basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ==")))
    for wrong in [
      "", "Basic", "Basic ", "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=",
      "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZR==",
    ] {
      #expect(!credentials.matches(request(wrong)), "\(wrong)")
    }
    #expect(!credentials.matches(request()))
    #expect(!credentials.matches(request(credentials.field, credentials.field)))
    #expect(BasicCredentials(user: "a:b", password: "c") == nil)
    #expect(BasicCredentials("no colon") == nil)
    #expect(BasicCredentials("a:b:c")?.matches(request("Basic YTpiOmM=")) == true)
  }

  @Test("attack 52: a combining character hides neither a blank nor a quote")
  func bytes() throws {
    let credentials = try #require(BasicCredentials(user: "Aladdin", password: "open sesame"))
    let encoded = "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    for wrong in [
      "Basic \u{301}\(encoded)", "Basic\u{A0}\(encoded)", "Ba\u{17F}ic \(encoded)", "Basic \(encoded)\u{301}",
    ] {
      #expect(!credentials.matches(request(wrong)), "\(wrong)")
    }
    let realm = RequestRejection.unauthorized(realm: "a\"\u{301}, x=\"\\").fields[.wwwAuthenticate]
    #expect(realm == "Basic realm=\"a\u{301}, x=\", charset=\"UTF-8\"")
  }

  @Test("attack 43: how long the comparison takes does not tell how much was right")
  func constantTime() throws {
    let secret = String(repeating: "s", count: 60_000)
    let credentials = try #require(BasicCredentials(user: "u", password: secret))
    let wrongAtOnce = try #require(BasicCredentials(user: "x", password: secret)).field
    let wrongAtTheEnd = try #require(BasicCredentials(user: "u", password: secret.dropLast(3) + "xyz")).field
    func time(_ field: String) -> Duration {
      let request = request(field)
      // The shortest of many: what disturbs a measurement only lengthens it.
      return (0..<30).map { _ in
        let start = ContinuousClock.now
        #expect(!credentials.matches(request))
        return ContinuousClock.now - start
      }.min() ?? .zero
    }
    let (early, late) = (time(wrongAtOnce), time(wrongAtTheEnd))
    #expect(early < late * 2 && late < early * 2)
  }

  @Test("those of a URL: a user alone has an empty password, and what is encoded does not part them")
  func urls() throws {
    func field(_ url: String) throws -> String? {
      try ConnectionURL(url).userInfo.map { try BasicCredentials($0).field }
    }
    #expect(try field("ws://token@host") == "Basic dG9rZW46")
    #expect(try field("ws://token:@host") == "Basic dG9rZW46")
    #expect(try field("ws://ann:p%3Aq@host") == BasicCredentials("ann:p:q")?.field)
    #expect(try field("ws://ann:p:q@host") == BasicCredentials("ann:p:q")?.field)
    #expect(try field("ws://:secret@host") == BasicCredentials(":secret")?.field)
    #expect(try field("ws://@host") == nil && field("ws://host") == nil)
    #expect(throws: URLError.self) { try field("ws://a%3Ab@host") }
  }
}
