import HTTPTypes
import SluiceStreams
import Testing

@testable import SluiceHTTP

@Suite("Variables of a connection (RFC 3875 §4.1)")
struct CGIVariablesTests {
  private func variables(_ head: String) throws -> CGIVariables {
    CGIVariables(try RequestHead(Bytes(head.utf8)).request)
  }

  @Test("a request's line, host and fields")
  func request() throws {
    let variables = try variables(
      "GET /rooms/gr%C3%BCn?a=b%20c HTTP/1.1\r\nHost: example.com:8080\r\nX-Trace-2: 7\r\nCookie: a=1\r\nCookie: b=2\r\nx-list: 1\r\nX-List: 2\r\n\r\n"
    )
    #expect(
      variables.values == [
        "GATEWAY_INTERFACE": "CGI/1.1", "SERVER_SOFTWARE": "Sluice", "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": "/rooms/gr%C3%BCn?a=b%20c", "SCRIPT_NAME": "", "PATH_INFO": "/rooms/grün",
        "QUERY_STRING": "a=b%20c",
        "SERVER_NAME": "example.com", "HTTP_HOST": "example.com:8080", "HTTP_X_TRACE_2": "7", "HTTP_COOKIE": "a=1; b=2",
        "HTTP_X_LIST": "1, 2",
      ])
  }

  @Test(
    "no field sets another variable, or another field's",
    arguments: [
      "Proxy", "PROXY", "X_Trace", "X.Trace", "Authorization", "Proxy-Authorization", "X`id`", "X'", "PATH|", "_",
    ])
  func names(name: String) throws {
    let plain = try variables("GET / HTTP/1.1\r\nHost: h\r\nX-Trace: mine\r\n\r\n")
    let other = try variables("GET / HTTP/1.1\r\nHost: h\r\nX-Trace: mine\r\n\(name): theirs\r\n\r\n")
    #expect(plain == other)
  }

  @Test("what a field can set begins with HTTP_, or is of the body")
  func prefix() throws {
    let names = ["PATH", "LD-PRELOAD", "Remote-Addr", "Request-Method", "Path-Info", "Content-Type", "HTTPS", "X"]
    let head = names.map { "\($0): x\r\n" }.joined()
    let plain = try variables("POST / HTTP/1.1\r\nHost: h\r\n\r\n").values
    let set = try variables("POST / HTTP/1.1\r\nHost: h\r\n\(head)\r\n").values.filter { plain[$0.key] != $0.value }
    #expect(set.count == names.count)
    #expect(set.keys.allSatisfy { $0.hasPrefix("HTTP_") || $0 == "CONTENT_TYPE" })
  }

  @Test(
    "a path leads nowhere above its root, and is text",
    arguments: [
      ("/", "/"), ("/a/../../etc/passwd", "/etc/passwd"), ("/%2e%2e/%2E./x", "/x"), ("/a/./b/", "/a/b/"),
      ("/a/b/..", "/a/"),
      ("/..", "/"), ("/%2F..%2F..%2Fx", "/x"), ("/a//b", "/a//b"), ("/%00", nil), ("/%FF", nil),
      ("/...", "/..."),
    ] as [(String, String?)])
  func paths(path: String, info: String?) throws {
    #expect(try variables("GET \(path) HTTP/1.1\r\nHost: h\r\n\r\n")["PATH_INFO"] == info)
  }

  @Test(
    "a server's name is a name or an address",
    arguments: [
      ("h:1", "h"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("a;b", nil), ("$(id)", nil), ("a%20b", nil),
      ("h:", "h"),
    ] as [(String, String?)])
  func serverName(host: String, name: String?) throws {
    #expect(try variables("GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n")["SERVER_NAME"] == name)
  }

  @Test("callers change them; a NUL sets nothing")
  func changes() {
    var variables = CGIVariables()
    variables["ROOM"] = "blue"
    variables["BAD"] = "a\0b"
    #expect(variables.values == ["ROOM": "blue"])
    variables["ROOM"] = nil
    #expect(variables == CGIVariables())
  }

  @Test("what an environment has of another connection goes; a proxy's address stays")
  func environment() throws {
    let old = [
      "HTTP_X_OLD": "1", "REMOTE_USER": "root", "SSL_CLIENT_S_DN": "CN=root", "HTTP_PROXY": "http://proxy",
      "PATH": "/bin",
      "CONTENT_LENGTH": "5",
    ]
    let environment = try variables("GET / HTTP/1.1\r\nHost: h\r\n\r\n").added(to: old)
    #expect(environment["HTTP_PROXY"] == "http://proxy" && environment["PATH"] == "/bin")
    for name in ["HTTP_X_OLD", "REMOTE_USER", "SSL_CLIENT_S_DN", "CONTENT_LENGTH"] { #expect(environment[name] == nil) }
    #expect(environment["HTTP_HOST"] == "h")
  }
}
