import SluiceHTTP
import Testing

@testable import SluiceClient

@Suite("The choice of a proxy")
struct ProxyTests {
  private func proxy(_ variables: [String: String], isSecure: Bool = true, host: String = "example.com") -> String? {
    ProxyVariables { variables[$0] }.proxy(for: Origin(host: host, port: isSecure ? 443 : 80, isSecure: isSecure))
  }

  @Test("the environment's variables, in their order")
  func environment() {
    #expect(proxy([:]) == nil)
    #expect(proxy(["https_proxy": "a", "http_proxy": "b", "all_proxy": "c"]) == "a")
    #expect(proxy(["https_proxy": "a", "http_proxy": "b", "all_proxy": "c"], isSecure: false) == "b")
    #expect(proxy(["http_proxy": "b", "ALL_PROXY": "c"]) == "c")
    #expect(proxy(["HTTPS_PROXY": "a"]) == "a")
    #expect(proxy(["https_proxy": "", "all_proxy": "c"]) == "c")
    // In a CGI program a stranger chooses HTTP_PROXY.
    #expect(proxy(["HTTP_PROXY": "b"], isSecure: false) == "b")
    #expect(proxy(["HTTP_PROXY": "b", "REQUEST_METHOD": "GET"], isSecure: false) == nil)
    #expect(proxy(["https_proxy": "a", "no_proxy": "example.com"]) == nil)
    #expect(proxy(["https_proxy": "a", "NO_PROXY": "*"]) == nil)
  }

  @Test(
    "exceptions: domains with all below them, addresses, networks, ports",
    arguments: [
      ("example.com", "example.com", true), ("example.com", "www.example.com", true),
      ("example.com", "EXAMPLE.com", true),
      (".example.com", "example.com", true), ("*.example.com", "a.example.com", true),
      ("example.com", "badexample.com", false),
      ("example.com", "example.com.evil.org", false), ("other, example.com", "example.com", true),
      ("", "example.com", false),
      ("example.com:443", "example.com", true), ("example.com:444", "example.com", false), (".", "example.com", false),
      ("127.0.0.0/8", "127.1.2.3", true), ("127.0.0.1", "127.0.0.2", false), ("10.0.0.0/8", "example.com", false),
      ("::1", "::1", true), ("[::1]:443", "::1", true), ("2001:db8::/32", "2001:db8::7", true),
      ("1", "127.0.0.1", false), ("example.com", "www.example.com.", true), ("example.com.", "example.com", true),
      (".example.com", "example.com.", true), ("example.com", "example.com..", false),
    ])
  func exceptions(_ list: String, _ host: String, _ isException: Bool) {
    #expect(ProxyVariables.matches(Origin(host: host, port: 443, isSecure: true), list) == isException)
  }

  @Test("a proxy's URL, with its own default port")
  func urls() throws {
    #expect(try Proxy("http://p").port == 80)
    #expect(try Proxy("https://p").port == 443)
    #expect(try Proxy("socks5h://a:b%3Ac@p").port == 1080)
    let credentials = try Proxy("socks5h://a%3Ab:c%3Ad@p").credentials
    #expect(credentials?.user == "a:b" && credentials?.password == "c:d")
    // What Basic can't say is an error at once, before any proxy is asked.
    #expect(throws: URLError.self) { try Proxy("http://a%3Ab:c@p") }
    #expect(throws: URLError.self) { try Proxy("ftp://p") }
    #expect(throws: URLError.self) { try Proxy("p:3128") }
  }
}
