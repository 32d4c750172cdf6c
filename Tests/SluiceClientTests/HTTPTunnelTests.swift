import SluiceHTTP
import SluiceStreams
import Testing

@testable import SluiceClient

@Suite("HTTP CONNECT (RFC 9110 §9.3.6, ATTACKS 39)")
struct HTTPTunnelTests {
  private func tunnel(credentials: BasicCredentials? = nil, headers: Headers = [:]) throws -> HTTPTunnel {
    try HTTPTunnel(
      to: Origin(host: "example.com", port: 443, isSecure: true), credentials: credentials, headers: headers)
  }

  /// - Returns: what came behind the answer, nil while that is not there.
  private func answer(_ text: String, size: Int) throws -> Bytes? {
    var tunnel = try tunnel()
    var rest = Bytes(text)
    while !rest.isEmpty {
      let piece = rest.prefix(size)
      rest = rest.dropFirst(piece.count)
      switch try tunnel.consume(piece) {
      case .wantsMore: break
      case .connected(let early): return early.followed(by: rest)
      case .refused(let response, _): throw Refused(status: response.status.code)
      }
    }
    return nil
  }

  private struct Refused: Error, Equatable {
    let status: Int
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
    for host in ["a b", "a\r\nb", "a\0b", "a/b", ""] {
      #expect(throws: HTTPFieldError.invalidHost) {
        _ = try HTTPTunnel(to: Origin(host: host, port: 80, isSecure: false), credentials: nil, headers: [:])
      }
    }
  }

  @Test("a tunnel is open behind a 2xx, however the answer is cut", arguments: [1, 3, .max])
  func opens(size: Int) throws {
    #expect(try answer("HTTP/1.1 200 Connection established\r\n\r\n", size: size) == "")
    #expect(try answer("HTTP/1.0 200\r\nVia: x\r\nContent-Length: 5\r\n\r\n", size: size) == "")
    #expect(try answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 Fine\r\n\r\n", size: size) == "")
    #expect(try answer("HTTP/1.1 200 OK\r\nVia: 1.1 a,\r\n\t1.1 b\r\n\r\n", size: size) == "")
    #expect(try answer("HTTP/1.1 200 Connection establ", size: size) == nil)
  }

  @Test("what comes behind a 2xx is the origin's, whatever the answer says of a length", arguments: [1, 3, .max])
  func earlyBytes(size: Int) throws {
    #expect(try answer("HTTP/1.1 200 OK\r\n\r\n220 mail", size: size) == "220 mail")
    #expect(try answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n220 mail", size: size) == "220 mail")
  }

  @Test("a refusal is one whatever its status")
  func refused() throws {
    for status in [301, 401, 403, 407, 500, 503] {
      #expect(throws: Refused(status: status)) {
        try answer("HTTP/1.1 \(status) No\r\nProxy-Authenticate: Basic\r\n\r\nbecause", size: .max)
      }
    }
  }

  @Test("endless heads and what is no HTTP are errors")
  func wrong() {
    #expect(throws: HTTPHeadError.self) {
      try answer("HTTP/1.1 200 OK\r\n" + String(repeating: "X: y\r\n", count: 100_000), size: 100)
    }
    #expect(throws: HTTPHeadError.self) {
      try answer(String(repeating: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", count: 10_000), size: 100)
    }
    #expect(throws: HTTPHeadError.self) { try answer(String(repeating: "x", count: 1_000_000), size: .max) }
    #expect(throws: HTTPHeadError.self) { try answer("SSH-2.0-OpenSSH\r\n\r\n", size: .max) }
    #expect(throws: HTTPHeadError.self) { try answer("HTTP/1.1 999999 x\r\n\r\n", size: .max) }
    #expect(throws: HTTPHeadError.self) { try answer("HTTP/1.1 200 OK\nX: y\n\n", size: .max) }
  }
}
