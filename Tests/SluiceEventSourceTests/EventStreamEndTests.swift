import Logging
import Sluice
import SluiceTestSupport
import Synchronization
import Testing

@Suite("How a server's event stream ends, by whomever", .timeLimit(.minutes(1)))
struct EventStreamEndTests {
  /// Runs `body` while a server serves, on the loop's thread.
  private func serving(
    _ options: EventSourceServerOptions = EventSourceServerOptions(),
    _ handler: @escaping @Sendable (EventStreamConnection) async throws -> Void,
    _ body: @escaping @Sendable (Int) async throws -> Void
  ) async throws {
    var options = options
    options.retry = nil
    let server = try await EventSourceServer.listen("http://127.0.0.1:0/feed", options: options)
    let running = Task { try await server.run(handler) }
    defer { running.cancel() }
    try await withTaskExecutorPreference(UVLoop.shared) { try await body(server.port) }
    running.cancel()
    await #expect(throws: CancellationError.self) { try await running.value }
  }

  private func request(_ fields: String = "", version: String = "1.1", on port: Int) async throws -> SocketStream {
    let socket = try await TCP.connect("127.0.0.1", port: port)
    try await socket.write(Bytes("GET /feed HTTP/\(version)\r\nHost: a\r\n\(fields)\r\n"))
    return socket
  }

  private func body(on socket: SocketStream) async throws -> String {
    let all = try await socket.collect(limit: 64 << 20) as Bytes
    socket.abort(StreamError.aborted)
    let end = try #require(all.firstRange(of: "\r\n\r\n" as Bytes))
    return all[end.upperBound...].string
  }

  // MARK: the client

  @Test(
    "a client that ends its half gets what was sent, and the end, and no reset", arguments: ["1.1", "1.0"], [3, 3000])
  func halfClosed(version: String, count: Int) async throws {
    let sent = Mutex(0)
    try await serving { events in
      for number in 0..<count {
        try await events.send("\(number) " + String(repeating: "x", count: 10_000))
        sent.withLock { $0 += 1 }
      }
      try await Task.sleep(for: .seconds(50))
    } _: { port in
      let socket = try await request(version: version, on: port)
      var before = -1
      while sent.withLock({ $0 }) != before || before == 0 {
        before = sent.withLock { $0 }
        try await Task.sleep(for: .milliseconds(200))
      }
      try await socket.close()
      let text = try await body(on: socket)
      #expect(text.ranges(of: "data: ").count >= before && before > 0)
      #expect(text.hasSuffix(version == "1.1" ? "xx\n\n\r\n0\r\n\r\n" : "xx\n\n"))
    }
  }

  @Test("the same where the handler waits for the end, which cancels it, and a broadcast waits for room")
  func halfClosedMember() async throws {
    let broadcast = EventBroadcast(whenSlow: .wait)
    let sent = Count()
    let writing = Task {
      while broadcast.count == 0 { try await Task.sleep(for: .milliseconds(5)) }
      while broadcast.count > 0 {
        try await broadcast.send(String(repeating: "x", count: 10_000))
        sent.add()
      }
    }
    try await serving {
      try await broadcast.serve($0)
    } _: { port in
      let socket = try await request(on: port)
      var before = -1
      while sent.value != before || before == 0 {
        before = sent.value
        try await Task.sleep(for: .milliseconds(200))
      }
      try await socket.close()
      try await Task.sleep(for: .milliseconds(200))
      let text = try await body(on: socket)
      #expect(text.ranges(of: "data: ").count >= before && before > 0)
      #expect(text.hasSuffix("xx\n\n\r\n0\r\n\r\n"))
    }
    writing.cancel()
  }

  @Test("what a client says behind its request is no reason for a reset", arguments: ["1.1", "1.0"])
  func talkative(version: String) async throws {
    let long = String(repeating: "x", count: 8 << 20)
    try await serving { events in
      try await events.send(long)
      try await events.close()
    } _: { port in
      let socket = try await request(version: version, on: port)
      for _ in 0..<20 {
        try await socket.write("nonsense")
        try await Task.sleep(for: .milliseconds(10))
      }
      #expect(try await body(on: socket).contains(long.prefix(5_000_000)))
    }
  }

  enum Leaving: CaseIterable {
    case reset, end, halfClose
  }

  @Test(
    "a handler is cancelled when its client has left, unless it shall not be", arguments: Leaving.allCases,
    [true, false])
  func cancelsHandler(leaving: Leaving, cancels: Bool) async throws {
    let seen = Mutex<[String]>([])
    var options = EventSourceServerOptions()
    options.cancelsHandler = cancels
    try await serving(options) { events in
      try await events.send("hello")
      do { try await Task.sleep(for: .milliseconds(cancels ? 50_000 : 500)) } catch is CancellationError {
        seen.withLock { $0.append("cancelled") }
      }
      do { try await events.send("late") } catch { seen.withLock { $0.append("\(error)") } }
    } _: { port in
      let socket = try await request(on: port)
      _ = try await socket.read()
      switch leaving {
      case .reset: socket.abort(StreamError.aborted)
      case .end:
        try await socket.close()
        socket.cancel(nil)
      case .halfClose: try await socket.close()
      }
      for _ in 0..<1000 where seen.withLock({ $0.last }) != "\(StreamError.closed)" {
        try await Task.sleep(for: .milliseconds(10))
      }
      #expect(seen.withLock { $0 } == (cancels ? ["cancelled", "\(StreamError.closed)"] : ["\(StreamError.closed)"]))
      socket.abort(StreamError.aborted)
    }
  }

  @Test("whoever waits for the end of the stream sees it, rather than a cancellation")
  func waitsForEnd() async throws {
    let seen = Mutex<[String]>([])
    try await serving { events in
      try await events.send("hello")
      do {
        try await events.waitUntilClosed()
        seen.withLock { $0.append("closed") }
      } catch { seen.withLock { $0.append("\(error)") } }
    } _: { port in
      let socket = try await request(on: port)
      _ = try await socket.read()
      socket.abort(StreamError.aborted)
      for _ in 0..<1000 where seen.withLock({ $0.isEmpty }) { try await Task.sleep(for: .milliseconds(10)) }
      #expect(seen.withLock { $0 } == ["closed"])
    }
  }

  // MARK: the handler

  @Test(
    "of a handler that throws everything arrives that it has sent, without the end of the body", arguments: [1, 2000])
  func throwingHandler(count: Int) async throws {
    struct Refusal: Error {}
    try await serving { events in
      for _ in 0..<count { try await events.send(String(repeating: "x", count: 10_000)) }
      throw Refusal()
    } _: { port in
      let socket = try await request(on: port)
      let text = try await body(on: socket)
      #expect(text.ranges(of: "data: ").count == count)
      #expect(text.hasSuffix("xx\n\n\r\n"))
      // Its client takes it for lost.
      var options = quickClient
      options.reconnects = false
      let feed = try await EventSource.connect("http://127.0.0.1:\(port)/feed", options: options)
      for _ in 0..<count { #expect(try await feed.read() != nil) }
      await #expect(throws: EventSourceError.truncated) { try await feed.read() }
    }
  }

  private final class Count: Sendable {
    private let count = Mutex(0)
    var value: Int { count.withLock { $0 } }
    func add() { count.withLock { $0 += 1 } }
  }

  @Test("to a client that knows no chunks, a reset says that something is missing, behind all that there is")
  func throwingHandlerToHTTP10() async throws {
    struct Refusal: Error {}
    try await serving { events in
      for _ in 0..<500 { try await events.send(String(repeating: "x", count: 10_000)) }
      throw Refusal()
    } _: { port in
      let socket = try await request(version: "1.0", on: port)
      var count = 0
      await #expect(throws: IOError.self) {
        while let chunk = try await socket.read() { count += chunk.count }
      }
      #expect(count > 500 * 10_000)
      socket.abort(StreamError.aborted)
    }
  }

  @Test("all who close a stream wait for its end")
  func closings() async throws {
    let closed = Count()
    try await serving { events in
      try events.push(ServerSentEvent(String(repeating: "x", count: 32 << 20)))
      let closings = (0..<2).map { _ in
        Task {
          try await events.close()
          closed.add()
        }
      }
      for closing in closings { try await closing.value }
    } _: { port in
      let socket = try await request(on: port)
      try await Task.sleep(for: .milliseconds(300))
      #expect(closed.value == 0)
      #expect(try await body(on: socket).hasSuffix("\r\n0\r\n\r\n"))
      for _ in 0..<100 where closed.value < 2 { try await Task.sleep(for: .milliseconds(10)) }
      #expect(closed.value == 2)
    }
  }

  @Test("a task that is cancelled already closes in good order too")
  func closeInCancelledTask() async throws {
    try await serving { events in
      let closing = Task {
        try? await Task.sleep(for: .seconds(50))
        try await events.send("last")
        try await events.close()
      }
      closing.cancel()
      try await closing.value
    } _: { port in
      let socket = try await request(on: port)
      #expect(try await body(on: socket).hasSuffix("data: last\n\n\r\n0\r\n\r\n"))
    }
  }

  // MARK: many senders

  @Test(
    "many tasks send to a client that takes its time: every event arrives, in the order of the calls, and who is cancelled has sent nothing"
  )
  func manySenders() async throws {
    let text = String(repeating: "x", count: 200_000)
    let cancelled = Count()
    try await serving { events in
      // More than the system takes.
      for _ in 0..<50 { try events.push(ServerSentEvent(text)) }
      try await withThrowingDiscardingTaskGroup { group in
        for number in 0..<100 {
          group.addTask { try await events.send("\(number) \(text)") }
          // On the loop, one after the other.
          await Task.yield()
        }
        for _ in 0..<10 {
          let waiting = Task { try await events.send("never \(text)") }
          try await Task.sleep(for: .milliseconds(5))
          waiting.cancel()
          do { try await waiting.value } catch is CancellationError { cancelled.add() }
        }
      }
    } _: { port in
      let socket = try await request(version: "1.0", on: port)
      // Nothing is read before: what is cancelled would have left otherwise.
      while cancelled.value < 10 { try await Task.sleep(for: .milliseconds(5)) }
      let lines = try await body(on: socket).split(separator: "\n").filter { $0.hasPrefix("data: ") }.dropFirst(50)
      let numbers = lines.map { $0.dropFirst(6).prefix { $0 != " " } }
      #expect(numbers == (0..<100).map { "\($0)" })
      #expect(cancelled.value == 10)
    }
  }

  @Test("a broadcast sends to all")
  func broadcastSends() async throws {
    let broadcast = EventBroadcast(whenSlow: .wait)
    try await serving {
      try await broadcast.serve($0)
    } _: { port in
      let socket = try await request(on: port)
      while broadcast.count == 0 { try await Task.sleep(for: .milliseconds(5)) }
      try await broadcast.send("42.7", event: "price", id: "7")
      try await broadcast.close()
      #expect(try await body(on: socket).hasSuffix("event: price\nid: 7\ndata: 42.7\n\n\r\n0\r\n\r\n"))
    }
  }

  // MARK: what is answered

  private func answer(
    _ request: String, _ options: EventSourceServerOptions
  ) async throws -> (status: String, fields: [String]) {
    let found = Mutex("")
    try await serving(options) { _ in
    } _: { port in
      let socket = try await TCP.connect("127.0.0.1", port: port)
      try await socket.write(Bytes(request))
      let text = (try await socket.collect(limit: 1 << 20) as Bytes).string
      socket.abort(StreamError.aborted)
      found.withLock { $0 = text }
    }
    let lines = found.withLock { $0 }.split(separator: "\r\n", omittingEmptySubsequences: false).prefix { !$0.isEmpty }
    return (String(lines.first?.dropFirst(9).prefix(3) ?? ""), lines.dropFirst().map { String($0) })
  }

  @Test("answers have a date, and tell nginx not to keep events back, unless that is said otherwise")
  func fields() async throws {
    for request in ["GET", "HEAD"] {
      let (status, fields) = try await answer(
        "\(request) /feed HTTP/1.1\r\nHost: a\r\n\r\n", EventSourceServerOptions())
      #expect(status == "200" && fields.contains("X-Accel-Buffering: no"))
      #expect(fields.count { $0.hasPrefix("Date: ") && $0.hasSuffix(" GMT") } == 1)
    }
    var options = EventSourceServerOptions()
    options.headers = ["x-accel-buffering": "yes", "Date": "Sun, 06 Nov 1994 08:49:37 GMT"]
    let (_, fields) = try await answer("GET /feed HTTP/1.1\r\nHost: a\r\n\r\n", options)
    #expect(fields.contains("x-accel-buffering: yes") && fields.contains("Date: Sun, 06 Nov 1994 08:49:37 GMT"))
    #expect(fields.count { $0.lowercased().hasPrefix("x-accel") || $0.hasPrefix("Date") } == 2)
    for request in ["PUT /feed", "GET /other"] {
      let (status, fields) = try await answer("\(request) HTTP/1.1\r\nHost: a\r\n\r\n", EventSourceServerOptions())
      #expect(["405", "404"].contains(status) && fields.contains { $0.hasPrefix("Date: ") })
    }
  }

  @Test(
    "a page of an origin that is allowed reads the stream, and why it was refused; its preflight is answered without the application's check",
    arguments: ["GET", "HEAD", "PUT", "OPTIONS", "GET?no"])
  func origins(request: String) async throws {
    func ask(_ origins: OriginPolicy, _ origin: String) async throws -> (status: String, fields: [String]) {
      var options = EventSourceServerOptions()
      options.origins = origins
      options.onRequest = { request in
        if request.path == "/feed?no" { throw RequestRejection.unauthorized() }
        return [:]
      }
      let parts = request.split(separator: "?")
      return try await answer(
        "\(parts[0]) /feed\(parts.count > 1 ? "?no" : "") HTTP/1.1\r\nHost: a\r\nOrigin: \(origin)\r\n"
          + "Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: authorization,last-event-id\r\n\r\n",
        options)
    }
    let right = ["GET": "200", "HEAD": "200", "PUT": "405", "OPTIONS": "204", "GET?no": "401"][request]
    let allowed = try await ask(.only("https://app.example"), "https://app.example")
    #expect(allowed.status == right)
    #expect(allowed.fields.contains("Access-Control-Allow-Origin: https://app.example"))
    #expect(
      allowed.fields.contains("Access-Control-Allow-Credentials: true") && allowed.fields.contains("Vary: Origin"))
    #expect(allowed.fields.contains("Access-Control-Allow-Methods: GET") == (request == "OPTIONS"))
    #expect(
      allowed.fields.contains("Access-Control-Allow-Headers: authorization, last-event-id") == (request == "OPTIONS"))
    let any = try await ask(.any, "https://app.example")
    #expect(any.status == right && any.fields.contains("Access-Control-Allow-Origin: *"))
    #expect(!any.fields.contains { $0.hasPrefix("Access-Control-Allow-Credentials") })
    for (policy, origin) in [
      (OriginPolicy.only("https://app.example"), "https://evil.example"), (.sameOrigin, "https://app.example"),
    ] {
      let refused = try await ask(policy, origin)
      #expect(refused.status == right && !refused.fields.contains { $0.hasPrefix("Access-Control-") })
    }
  }
}
