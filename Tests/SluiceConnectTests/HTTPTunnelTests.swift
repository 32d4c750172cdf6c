import SluiceHTTP
import SluiceStreams
import Testing

@testable import SluiceConnect

@Suite("HTTP CONNECT (RFC 9110 §9.3.6, ATTACKS 39)")
struct HTTPTunnelTests {
  private func tunnel(credentials: BasicCredentials? = nil, headers: Headers = [:]) throws -> HTTPTunnel {
    try HTTPTunnel(
      to: Origin(host: "example.com", port: 443, isSecure: true), credentials: credentials, headers: headers)
  }

  private func answer(_ text: String, size: Int) throws -> Bool {
    var tunnel = try tunnel()
    var rest = Bytes(text)
    while !rest.isEmpty {
      let piece = rest.prefix(size)
      rest = rest.dropFirst(piece.count)
      if try tunnel.consume(piece) { return true }
    }
    return false
  }

  @Test("what is asked, with credentials and headers of the proxy's own")
  func request() throws {
    let request = try tunnel(credentials: BasicCredentials(user: "ann", password: "secret"), headers: ["X-Trace": "7"])
      .request.string
    #expect(
      request == """
        CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nProxy-Authorization: Basic YW5uOnNlY3JldA==\r\n\
        X-Trace: 7\r\n\r\n
        """)
    let address = try HTTPTunnel(
      to: Origin(host: "::1", port: 80, isSecure: false), credentials: nil, headers: [:])
    #expect(address.request.string.hasPrefix("CONNECT [::1]:80 HTTP/1.1\r\n"))
    #expect(throws: HTTPFieldError.self) { _ = try tunnel(headers: ["X\r\nY": "z"]) }
    #expect(throws: HTTPFieldError.self) { _ = try tunnel(headers: ["Host": "z"]) }
  }

  @Test("a tunnel is open behind a 2xx, however the answer is cut", arguments: [1, 3, .max])
  func opens(size: Int) throws {
    #expect(try answer("HTTP/1.1 200 Connection established\r\n\r\n", size: size))
    #expect(try answer("HTTP/1.0 200\r\nVia: x\r\nContent-Length: 5\r\n\r\n", size: size))
    #expect(try answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 Fine\r\n\r\n", size: size))
    #expect(try !answer("HTTP/1.1 200 Connection establ", size: size))
  }

  @Test("a refusal shows status, headers and the beginning of its body")
  func refused() throws {
    for status in [301, 401, 403, 407, 500, 503] {
      do {
        _ = try answer("HTTP/1.1 \(status) No\r\nProxy-Authenticate: Basic\r\n\r\nbecause", size: .max)
        Issue.record("\(status) opened a tunnel")
      } catch ConnectError.proxyRefused(let actual, let headers, let body) {
        #expect(actual == status && headers[.proxyAuthenticate] == "Basic" && body == "because")
      }
    }
  }

  @Test("early bytes, endless heads and what is no HTTP are errors")
  func wrong() {
    #expect(throws: ConnectError.proxyEarlyBytes(5)) { try answer("HTTP/1.1 200 OK\r\n\r\nhello", size: .max) }
    #expect(throws: ConnectError.self) {
      try answer("HTTP/1.1 200 OK\r\n" + String(repeating: "X: y\r\n", count: 100_000), size: 100)
    }
    #expect(throws: ConnectError.self) { try answer(String(repeating: "x", count: 1_000_000), size: .max) }
    #expect(throws: ConnectError.self) { try answer("SSH-2.0-OpenSSH\r\n\r\n", size: .max) }
    #expect(throws: ConnectError.self) { try answer("HTTP/1.1 999999 x\r\n\r\n", size: .max) }
    #expect(throws: ConnectError.self) { try answer("HTTP/1.1 200 OK\nX: y\n\n", size: .max) }
  }
}
