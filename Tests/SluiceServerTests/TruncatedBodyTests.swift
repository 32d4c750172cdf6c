import Logging
import Sluice
import SluiceTestSupport
import Testing

@testable import SluiceServer

@Suite("Requests that end too early")
struct TruncatedBodyTests {
  @Test(
    "a client that ends within a body gets the answers to what it asked before, and is told so",
    arguments: ["Content-Length: 6\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n6\r\nabc"])
  func answers(end: String) async throws {
    let loop = SimulatedLoop()
    let text = try await loop.simulate {
      var network = SimulatedNetwork(loop: loop)
      network.delay = .milliseconds(1)
      let (client, server) = network.connection()
      let routes: [HTTPRoute] = [
        .respond("/get") { _ in .text("got") },
        .respond("/echo", methods: [.post]) { .bytes(try await $0.body.collect(limit: 100), type: "text/plain") },
      ]
      let options = HTTPServerOptions()
      let connection = HTTPConnection(
        server, routes: routes, options: options, counter: options.listen.counter(), logger: Logger(label: "test"))
      let serving = Task(executorPreference: loop) { await connection.serve() }
      try await client.write(
        Bytes("GET /get HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo HTTP/1.1\r\nHost: a\r\n\(end)"))
      try await client.close()
      let text = try await SluiceServerTests.answers(on: client)
      await serving.value
      return text
    }
    #expect(text.hasPrefix("HTTP/1.1 200 OK\r\n") && text.contains("\r\n\r\ngotHTTP/1.1 400 Bad Request\r\n"))
  }
}
