import HTTPTypes
import Logging
import Sluice
import SluiceTestSupport
import Testing

/// A body whose length two readers see differently hides a second request from one of them.
@Suite("Attacks: requests that are smuggled", .timeLimit(.minutes(2)))
struct SmugglingAttackTests {
  private static let routes: [HTTPRoute] = [
    .respond("/health") { _ in .text("ok") },
    .respond("/upload", methods: [.put]) { request in
      .text("got \((try await request.body.collect(limit: 1000) as Bytes).count)")
    },
    .webSocket("/ws") { ws in try await ws.pipe(ws) },
    .events("/feed") { events in try await events.send("hello") },
  ]
  private static let quiet = Logger(label: "attacks") { _ in SwiftLogNoOpLogHandler() }
  private static let smuggled = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n12345"

  /// Requests whose head says twice how long the body is, or in two ways.
  static let lengths = [
    "Content-Length: 40\r\nContent-Length: 40", "Content-Length: 0\r\nContent-Length: 0", "Content-Length: 40, 40",
    "Content-Length: 0\r\nContent-Length: 40", "Content-Length: 40\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: chunked\r\nContent-Length: 40", "Content-Length: 0x28", "Content-Length: 4 0",
    "Content-Length: -0", "Content-Length:", "Content-Length: \u{FF14}\u{FF10}",
  ]

  private static let upgrade =
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

  private static func heads(_ length: String) -> [String] {
    [
      "PUT /upload HTTP/1.1\r\nHost: a\r\n\(length)\r\n\r\n", "GET /health HTTP/1.1\r\nHost: a\r\n\(length)\r\n\r\n",
      "GET /ws HTTP/1.1\r\nHost: a\r\n\(upgrade)\(length)\r\n\r\n",
      "GET /feed HTTP/1.1\r\nHost: a\r\n\(length)\r\n\r\n",
    ]
  }

  @Test("attack 28: a length that is said twice gets 400 and the end, on every route", arguments: lengths)
  func ambiguousLengths(length: String) async throws {
    let server = try await HTTPServer.listen("http://127.0.0.1:0")
    let running = Task { try await server.run(routes: Self.routes, logger: Self.quiet) }
    for head in Self.heads(length) {
      let attacker = Attacker(socket: try await TCP.connect("127.0.0.1", port: server.port))
      try await attacker.send(head + Self.smuggled)
      let answer = await attacker.receiveAll()
      let text = String(decoding: answer.bytes, as: UTF8.self)
      #expect(text.hasPrefix("HTTP/1.1 400 "), "\(head)")
      #expect(text.split(separator: "HTTP/1.1 ").count == 1, "one answer to \(head)")
      #expect(answer.end == .closed)
    }
    running.cancel()
    _ = try? await running.value
  }

  @Test("attack 28: a body is as long as its length says, and the request behind it is answered")
  func rightLength() async throws {
    let server = try await HTTPServer.listen("http://127.0.0.1:0")
    let running = Task { try await server.run(routes: Self.routes, logger: Self.quiet) }
    let attacker = Attacker(socket: try await TCP.connect("127.0.0.1", port: server.port))
    let body = Self.smuggled
    try await attacker.send(
      "PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 000\(body.utf8.count)\r\n\r\n\(body)"
        + "GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    let text = String(decoding: await attacker.receiveAll().bytes, as: UTF8.self)
    #expect(text.contains("\r\n\r\ngot \(body.utf8.count)HTTP/1.1 200 OK\r\n") && text.hasSuffix("\r\n\r\nok"))
    running.cancel()
    _ = try? await running.value
  }

  @Test(
    "attack 28: the same for requests that another server has read",
    arguments: [["40", "40"], ["0", "0"], ["40, 40"], ["40"], ["+0"], ["x"]])
  func acceptedRequests(lengths: [String]) async throws {
    var request = HTTPRequest(method: .get, scheme: "http", authority: "a", path: "/")
    request.headerFields = [
      .upgrade: "websocket", .connection: "Upgrade", .secWebSocketVersion: "13",
      .secWebSocketKey: "dGhlIHNhbXBsZSBub25jZQ==",
    ]
    for length in lengths { request.headerFields.append(HTTPField(name: .contentLength, value: length)) }
    let final = request
    let accepts: [@Sendable (SimulatedStream) async throws -> Void] = [
      { _ = try await WebSocket.accept(final, over: $0) }, { _ = try await EventSource.accept(final, over: $0) },
    ]
    for accept in accepts {
      let loop = SimulatedLoop()
      let answer = try await loop.simulate {
        let (client, server) = SimulatedNetwork(loop: loop).connection()
        let accepting = Task(executorPreference: loop) { try await accept(server) }
        let answer = try await client.read()?.string ?? ""
        client.abort(StreamError.aborted)
        return if case .failure = await accepting.result { answer } else { "accepted" }
      }
      #expect(answer.hasPrefix("HTTP/1.1 400 "), "\(answer)")
    }
  }
}
