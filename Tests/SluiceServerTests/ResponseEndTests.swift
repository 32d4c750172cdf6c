import HTTPTypes
import Sluice
import SluiceStreams
import Synchronization
import Testing

@testable import SluiceServer

@Suite("Ends of responses", .timeLimit(.minutes(2)))
struct ResponseEndTests {
  private struct Broken: Error, CustomStringConvertible {
    let description = "the disk is on fire"
  }

  /// Gives some chunks and then fails.
  private static func failing(after chunks: Int) -> some ReadableStream<Bytes> {
    let given = Mutex(0)
    return Readable<Bytes> {
      let count = given.withLock { given in
        given += 1
        return given
      }
      if count > chunks { throw Broken() }
      return Bytes([UInt8](repeating: 0x78, count: 1000))
    }
  }

  private static let routes: [HTTPRoute] = [
    .respond("/chunked/{chunks}") { request in
      .stream(failing(after: Int(request.parameters["chunks"] ?? "") ?? 0), type: "text/plain")
    },
    .respond("/sized/{chunks}") { request in
      .stream(failing(after: Int(request.parameters["chunks"] ?? "") ?? 0), type: "text/plain", length: 1_000_000)
    },
    .respond("/short") { _ in .stream(SequenceStream(["one"] as [Bytes]), type: "text/plain", length: 10) },
    .respond("/thrown") { _ in throw Broken() },
    .webSocket("/socket/{room}") { _ in throw Broken() },
    .events("/feed") { _ in throw Broken() },
  ]

  private func get(_ path: String, version: String = "1.1", from server: HTTPServer) async throws -> (
    String, (any Error)?
  ) {
    let socket = try await TCP.connect("127.0.0.1", port: server.port)
    try await socket.write(Bytes("GET \(path)?token=secret HTTP/\(version)\r\nHost: a\r\n\r\n"))
    var text = ""
    do { while let bytes = try await socket.read() { text += bytes.string } } catch { return (text, error) }
    socket.abort(StreamError.aborted)
    return (text, nil)
  }

  @Test(
    "a stream that fails or gives too little: what it gave arrives, the end is missing, and the log says so with peer and path",
    arguments: ["/chunked/0", "/chunked/300", "/sized/0", "/sized/300", "/short"])
  func failures(path: String) async throws {
    let log = LogLines()
    try await withServer(routes: Self.routes, logger: log.logger) { server in
      let (answer, _) = try await get(path, from: server)
      #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n"))
      let body = answer.split(separator: "\r\n\r\n", maxSplits: 1).dropFirst().first ?? ""
      #expect(!body.hasSuffix("0\r\n\r\n") && body != "0\r\n\r\n")
      let given = path == "/short" ? 0 : (Int(path.split(separator: "/")[1]) ?? 0) * 1000
      #expect(body.filter { $0 == "x" }.count == given)
      #expect(log.all.count == 1)
      let reason =
        path == "/short" ? "the response body has 3 bytes, but Content-Length promised 10" : "the disk is on fire"
      #expect(log.all.first == "error response truncated error=\(reason) method=GET path=\(path) peer=127.0.0.1")
    }
  }

  @Test(
    "a body that ends with the connection does not end in good order when its stream fails, behind all that it gave")
  func unframed() async throws {
    let log = LogLines()
    try await withServer(routes: Self.routes, logger: log.logger) { server in
      let (answer, error) = try await get("/chunked/300", version: "1.0", from: server)
      #expect(error != nil)
      #expect(answer.hasSuffix(String(repeating: "x", count: 300_000)))
      #expect(log.all.count == 1)
    }
  }

  @Test("a handler that fails is logged with peer and path, whatever it serves, and without the query")
  func handlers() async throws {
    let log = LogLines()
    try await withServer(routes: Self.routes, logger: log.logger) { server in
      let (answer, _) = try await get("/thrown", version: "1.0", from: server)
      #expect(answer.hasPrefix("HTTP/1.1 500 ") && !answer.contains("fire"))
      let ws = try await WebSocket.connect("ws://127.0.0.1:\(server.port)/socket/a%41?token=secret")
      await #expect(throws: (any Error).self) { try await ws.read() }
      _ = try? await get("/feed", version: "1.0", from: server)
      for _ in 0..<500 where log.all.count < 3 { try await Task.sleep(for: .milliseconds(10)) }
    }
    let reason = "error=the disk is on fire"
    #expect(log.all.contains("error handler failed \(reason) method=GET path=/thrown peer=127.0.0.1"))
    #expect(log.all.contains("error handler failed \(reason) path=/socket/aA peer=127.0.0.1"))
    #expect(log.all.contains("error handler failed \(reason) path=/feed peer=127.0.0.1"))
    #expect(log.all.count == 3 && !log.all.contains { $0.contains("secret") })
  }

  @Test(
    "204, 205 and 304 have no content, whatever the handler gave, and 205 says so (RFC 9110 §15.3.6)",
    arguments: [204, 205, 304])
  func withoutContent(status: Int) async throws {
    let bodies: [@Sendable () -> ServerResponse.Body] = [
      { .bytes("content") }, { .stream(SequenceStream(["content"] as [Bytes]), length: nil) },
      { .stream(SequenceStream(["content"] as [Bytes]), length: 7) },
    ]
    let routes = bodies.enumerated().map { index, body in
      HTTPRoute.respond("/\(index)") { _ in ServerResponse(status: status, body: body()) }
    }
    try await withServer(routes: routes + [.respond("/next") { _ in .text("next") }]) { server in
      for index in bodies.indices {
        let requests = "GET /\(index) HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.0\r\n\r\n"
        let answer = try await server.exchange([Bytes(requests)])
        let length = status == 205 ? "Content-Length: 0\r\n" : ""
        #expect(answer.contains("\r\n\(length)\r\nHTTP/1.1 200 OK\r\n") && answer.hasSuffix("next"))
        #expect(!answer.contains("content") && !answer.contains("chunked"))
      }
    }
  }

  @Test("an answer that the server refuses, or whose body it does not send, gives its stream back")
  func descriptors() async throws {
    try await withFiles(["x.txt"]) { folder in
      let path = folder.appending("x.txt")
      func respond(_ route: String, _ change: @escaping @Sendable (inout ServerResponse) -> Void) -> HTTPRoute {
        .respond(route) { _ in
          var response = ServerResponse.stream(try await File.open(path), type: "text/plain")
          change(&response)
          return response
        }
      }
      let routes = [
        respond("/status") { $0.status = 100 }, respond("/field") { $0.fields[.connection] = "close" },
        respond("/length") {
          $0.body = if case .stream(let stream, _) = $0.body { .stream(stream, length: 3) } else { $0.body }
        },
        respond("/204") { $0.status = 204 }, respond("/205") { $0.status = 205 }, respond("/304") { $0.status = 304 },
        respond("/ok") { _ in },
      ]
      try await withServer(routes: routes, logger: LogLines().logger) { server in
        _ = try await server.exchange(["GET /ok HTTP/1.0\r\n\r\n"])
        let before = openDescriptorCount()
        for _ in 0..<20 {
          for route in ["status", "field", "length", "204", "205", "304", "ok"] {
            _ = try await server.exchange([Bytes("GET /\(route) HTTP/1.0\r\n\r\n")])
          }
          _ = try await server.exchange(["HEAD /ok HTTP/1.0\r\n\r\n"])
        }
        // The last connections' own may be closed in a moment.
        for _ in 0..<500 where openDescriptorCount() > before + 5 { try await Task.sleep(for: .milliseconds(10)) }
        #expect(openDescriptorCount() <= before + 5)
      }
    }
  }
}
