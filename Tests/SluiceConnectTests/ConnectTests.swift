import HTTPTypes
import SluiceHTTP
import SluiceIO
import SluiceStreams
import Testing

@testable import SluiceConnect

@Suite("The way to an origin", .timeLimit(.minutes(1)))
struct ConnectTests {
  @Test("a Unix socket is reached without the proxy, which is told nothing and tells the socket nothing")
  func unixSocketBesideProxy() async throws {
    let name = "@sluice-test-\(UInt64.random(in: 0 ... .max))"
    let socket = try await UnixSocket.listen(name)
    let proxy = try await TCP.listen("127.0.0.1", port: 0)
    var options = ConnectOptions()
    options.unixSocket = name
    options.proxy = .through(try Proxy("http://ann:secret@127.0.0.1:\(proxy.port)"))
    options.timeout = .seconds(2)
    let stream = try await Connect.open(Origin(host: "localhost", port: 80, isSecure: false), options: options)
    try await stream.write("hello")
    let peer = try #require(try await socket.read())
    #expect(try await peer.read() == "hello")
    for end in [stream as any PolledDuplexStream<Bytes, Bytes>, peer] { end.abort(StreamError.aborted) }
    socket.cancel()
    proxy.cancel()
    #expect(try await proxy.read() == nil)
  }

  @Test("a redirect keeps the URL's credentials at the same origin, and only there")
  func redirectedCredentials() throws {
    let url = try ConnectionURL("ws://ann:secret@example.com/a/b?c")
    func follow(_ location: String) throws -> Redirect {
      let schemes = ["http": "ws", "https": "wss", "ws": "ws", "wss": "wss"]
      return try #require(try Redirect(status: 307, headers: [.location: location], from: url, schemes: schemes))
    }
    for location in ["/x", "x", "?y", "//example.com/z", "http://example.com:80/"] {
      #expect(try follow(location).url.userInfo == url.userInfo, "\(location)")
    }
    for location in ["//example.org/", "wss://example.com/", "ws://example.com:81/"] {
      #expect(try follow(location).url.userInfo == nil, "\(location)")
    }
    #expect(throws: Redirect.NotFollowed.self) { try follow("ws://eve:x@example.com/") }
  }
}
