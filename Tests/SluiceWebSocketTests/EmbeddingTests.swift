import HTTPTypes
import Sluice
import SluiceTestSupport
import Testing

@Suite("Requests that another server has read", .timeLimit(.minutes(2)))
struct EmbeddingTests {
  private static func request(
    _ method: HTTPRequest.Method = .get, _ fields: HTTPFields = EmbeddingTests.fields
  ) -> HTTPRequest {
    HTTPRequest(method: method, scheme: "http", authority: "test", path: "/chat?room=1", headerFields: fields)
  }

  private static let fields: HTTPFields = [
    .upgrade: "websocket", .connection: "Upgrade", .secWebSocketKey: "dGhlIHNhbXBsZSBub25jZQ==",
    .secWebSocketVersion: "13",
  ]

  @Test("what asks for a WebSocket: a GET with Upgrade: websocket, in any case and beside others")
  func isWebSocket() {
    #expect(WebSocket.isWebSocket(Self.request()))
    #expect(WebSocket.isWebSocket(Self.request(.get, [.upgrade: "h2c, WebSocket"])))
    #expect(!WebSocket.isWebSocket(Self.request(.post)))
    #expect(!WebSocket.isWebSocket(Self.request(.get, [:])))
    #expect(!WebSocket.isWebSocket(Self.request(.get, [.upgrade: "websockets"])))
  }

  @Test("a request becomes a WebSocket; frames behind its head are its first messages, however they are cut")
  func accept() async throws {
    let message = frame(0x81, "Hello")
    for count in 0...message.count {
      try await SimulatedWire.run { near, far, _ in
        async let accepted = WebSocket.accept(Self.request(), over: far, head: message.prefix(count))
        #expect(try await SimulatedWire.readHead(near).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
        let ws = try await accepted
        #expect(ws.url == "ws://test/chat?room=1")
        #expect(ws.request?.path == "/chat?room=1")
        try await near.write(message.dropFirst(count))
        #expect(try await ws.read() == "Hello")
        ws.abort(StreamError.aborted)
      }
    }
  }

  @Test("hixie-76: the last eight bytes may stand behind the head, in part or not at all")
  func hixie() async throws {
    let fields: HTTPFields = [
      .upgrade: "WebSocket", .connection: "Upgrade", .origin: "http://test",
      .init("Sec-WebSocket-Key1")!: "4 @1  46546xW%0l 1 5", .init("Sec-WebSocket-Key2")!: "12998 5 Y3 1  .P00",
    ]
    for count in 0...8 {
      try await SimulatedWire.run { near, far, _ in
        let body: Bytes = "^n:ds[4U"
        async let accepted = WebSocket.accept(Self.request(.get, fields), over: far, head: body.prefix(count))
        var answer = try await SimulatedWire.readHead(near)
        try await near.write(body.dropFirst(count))
        while !answer.hasSuffix("8jKS'y:G*Co,Wxa-"), let more = try await near.read() { answer += more.string }
        let ws = try await accepted
        #expect(ws.version == "hixie-76")
        ws.abort(StreamError.aborted)
      }
    }
  }

  @Test("a refusal is answered and thrown, and ends the connection")
  func refusal() async throws {
    var fields = Self.fields
    fields[.origin] = "http://evil"
    for (request, status) in [
      (Self.request(.post), 405), (Self.request(.get, [:]), 426), (Self.request(.get, fields), 403),
    ] {
      try await SimulatedWire.run { near, far, loop in
        let accepted = Task(executorPreference: loop) { try await WebSocket.accept(request, over: far) }
        #expect(try await SimulatedWire.readHead(near).hasPrefix("HTTP/1.1 \(status) "))
        try await near.close()
        await #expect(throws: RequestRejection.self) { try await accepted.value }
      }
    }
  }
}
