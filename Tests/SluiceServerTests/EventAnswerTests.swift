import Sluice
import SluiceServer
import SluiceTestSupport
import Testing

@Suite("Event streams in answer to requests of any method", .timeLimit(.minutes(1)))
struct EventAnswerTests {
  /// As an interface of a language model, or of MCP: a question by POST, with a stream for an answer where that is wanted; what comes unasked for, by GET.
  private static let routes: [HTTPRoute] = [
    .events("/mcp") { events in try await events.send("unasked for") },
    .respond("/mcp", methods: [.post]) { request in
      let question = (try await request.body.collect(limit: 1 << 20) as Bytes).string
      guard question != "plain" else { return .text("no stream") }
      return .events(fields: [.contentLanguage: "en"]) { events in
        #expect(events.request.method == .post)
        for word in question.split(separator: " ") { try await events.send(String(word)) }
      }
    },
    .respond("/get") { _ in .events { events in try await events.send("hello") } },
    .respond("/wrong") { _ in .events(fields: [.contentType: "text/plain"]) { _ in } },
  ]

  private func ask(_ method: HTTPRequest.Method, _ path: String, _ body: Bytes?, on server: HTTPServer) async throws
    -> [String]
  {
    var options = EventSourceClientOptions()
    options.reconnects = false
    let client = try await EventSource.connect(
      "http://127.0.0.1:\(server.port)\(path)", method: method, body: body, options: options)
    var data: [String] = []
    for try await event in client { data.append(event.data) }
    return data
  }

  @Test("a POST gets a stream, beside the stream of a GET at the same path")
  func post() async throws {
    try await withServer(routes: Self.routes) { server in
      let answers = [
        try await ask(.post, "/mcp", "what is it", on: server), try await ask(.post, "/mcp", "", on: server),
        try await ask(.get, "/mcp", nil, on: server), try await ask(.get, "/get", nil, on: server),
      ]
      #expect(answers == [["what", "is", "it"], [], ["unasked for"], ["hello"]])
      await #expect(throws: EventSourceError.self) { try await ask(.post, "/mcp", "plain", on: server) }
    }
  }

  @Test("on the wire: a body of any length before it, and fields of its own")
  func wire() async throws {
    try await withServer(routes: Self.routes) { server in
      for body in [
        "Content-Length: 3\r\n\r\na b", "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\n b\r\n0\r\n\r\n",
      ] {
        let answer = try await server.exchange([Bytes("POST /mcp HTTP/1.1\r\nHost: a\r\n" + body)])
        #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"))
        #expect(answer.contains("\r\nContent-Language: en\r\n") && answer.contains("\r\nConnection: close\r\n"))
        #expect(answer.hasSuffix("9\r\ndata: a\n\n\r\n9\r\ndata: b\n\n\r\n0\r\n\r\n"))
      }
      let head = try await server.exchange(["HEAD /get HTTP/1.1\r\nHost: a\r\n\r\n"])
      #expect(head.hasPrefix("HTTP/1.1 200 OK\r\n") && head.hasSuffix("\r\n\r\n"))
      let plain = try await server.exchange(["GET /get HTTP/1.0\r\n\r\n"])
      #expect(plain.hasSuffix("\r\n\r\nretry: 5000\n\ndata: hello\n\n"))
      #expect(try await server.exchange(["GET /wrong HTTP/1.0\r\n\r\n"]).hasPrefix("HTTP/1.1 500 "))
      // What the routes are not for is refused as before.
      #expect(try await server.exchange(["PUT /mcp HTTP/1.1\r\nHost: a\r\n\r\n"]).hasPrefix("HTTP/1.1 405 "))
    }
  }
}
