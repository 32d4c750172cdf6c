import HTTPTypes
import Sluice
import SluiceTestSupport
import Synchronization
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

  @Test(
    "the subprotocol is the first of the call's own, or of the options', that the client offers; options' are those that a call names none of"
  )
  func subprotocol() async throws {
    var fields = Self.fields
    fields[.secWebSocketProtocol] = "c, b, a"
    var options = WebSocketHandshakeOptions()
    options.protocols = ["a", "b"]
    for (named, expected) in [(["b", "c"], "b"), ([], "a"), (["d"], "")] {
      try await SimulatedWire.run { [fields, options] near, far, _ in
        async let accepted = WebSocket.accept(
          Self.request(.get, fields), over: far, protocols: named, options: options)
        let answer = try await SimulatedWire.readHead(near)
        #expect(answer.contains("Sec-WebSocket-Protocol: \(expected)\r\n") == !expected.isEmpty)
        let ws = try await accepted
        #expect(ws.protocol == expected)
        ws.abort(StreamError.aborted)
      }
    }
  }

  @Test("in the style of callbacks: what is sent before the handshake is done leaves behind it, in order")
  func events() async throws {
    try await SimulatedWire.run { near, far, _ in
      let events = WebSocketCallbacks.accept(Self.request(), over: far, head: frame(0x81, "Hello"), protocols: ["chat"])
      #expect(events.trySend("first") && events.trySend("second"))
      events.onMessage { events.trySend($0) }
      #expect(try await SimulatedWire.readHead(near).hasPrefix("HTTP/1.1 101 "))
      var answer: [UInt8] = []
      while answer.count < 22, let more = try await near.read() { answer += more }
      #expect(answer == [0x81, 5] + "first".utf8 + [0x81, 6] + "second".utf8 + [0x81, 5] + "Hello".utf8)
      near.abort(StreamError.aborted)
      await events.waitUntilClosed()
    }
  }

  @Test("in the style of callbacks: a refusal is an error and a close")
  func refusedEvents() async throws {
    try await SimulatedWire.run { near, far, _ in
      let events = WebSocketCallbacks.accept(Self.request(.post), over: far)
      let closed = Mutex<CloseCode?>(nil)
      let failed = Mutex<RequestRejection?>(nil)
      events.onError { error in failed.withLock { $0 = error as? RequestRejection } }
      events.onClose { code, _ in closed.withLock { $0 = code } }
      #expect(try await SimulatedWire.readHead(near).hasPrefix("HTTP/1.1 405 "))
      try await near.close()
      await events.waitUntilClosed()
      #expect(failed.withLock { $0?.status } == 405)
      #expect(closed.withLock { $0 } == .abnormal)
    }
  }
}
