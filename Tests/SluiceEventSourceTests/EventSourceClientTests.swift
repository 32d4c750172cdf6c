import Sluice
import SluiceHTTP
import SluiceTestSupport
import SluiceZlib
import Synchronization
import Testing

@Suite("EventSource clients: coming back, ending, and what a server may not do to them", .timeLimit(.minutes(1)))
struct EventSourceClientTests {
  private let clock = ContinuousClock()

  @Test("cancelling the stream ends a read that waits to come back", arguments: [60_000, 300])
  func cancelWhileAway(retry: Int) async throws {
    let requests = try await withLiteralServer([eventStream("retry: \(retry)\nid: 1\ndata: a\n\n")]) { url in
      let client = try await EventSource.connect(url)
      #expect(try await client.read()?.data == "a")
      let waiting = Task { try await client.read() }
      try await Task.sleep(for: .milliseconds(100))
      let start = clock.now
      client.cancel(nil)
      #expect(try await waiting.value == nil)
      #expect(clock.now - start < .seconds(20))
      #expect(try await client.read() == nil)
      // Nor does another connection follow.
      if retry < 1000 { try await Task.sleep(for: .seconds(1)) }
    }
    #expect(requests.count == 1)
  }

  @Test("cancelling the stream ends a read that comes back, while the server does not answer")
  func cancelWhileReturning() async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let (returned, returning) = AsyncStream<Void>.makeStream()
    let serving = Task {
      var held: [SocketStream] = []
      while let socket = try await listener.read() {
        _ = try await socket.read()
        if held.isEmpty {
          try await socket.write(eventStream("retry: 1\ndata: a\n\n"))
          try await socket.close()
        } else {
          returning.yield()
        }
        held.append(socket)
      }
    }
    var options = quickClient
    options.timeout = .seconds(50)
    let client = try await EventSource.connect("http://127.0.0.1:\(listener.port)/", options: options)
    #expect(try await client.read()?.data == "a")
    let waiting = Task { try await client.read() }
    for await _ in returned { break }
    let start = clock.now
    client.cancel(nil)
    #expect(try await waiting.value == nil)
    #expect(clock.now - start < .seconds(20))
    listener.cancel()
    try await serving.value
  }

  @Test("cancelling the stream ends a read of a connection that is open")
  func cancelWhileConnected() async throws {
    _ = try await withLiteralServer([eventStream("data: a\n\n")], holds: true) { url in
      let client = try await EventSource.connect(url, options: quickClient)
      #expect(try await client.read()?.data == "a")
      let waiting = Task { try await client.read() }
      try await Task.sleep(for: .milliseconds(100))
      client.cancel(CancellationError())
      #expect(try await waiting.value == nil)
    }
  }

  @Test("a read that is cancelled leaves the stream as it was: connected, or waiting for its time to come back")
  func cancelledRead() async throws {
    let (step, stepping) = AsyncStream<String>.makeStream()
    let connections = Mutex(0)
    var serving = HTTPServerOptions()
    serving.shutdownTimeout = .milliseconds(50)
    let server = try await EventSourceServer.listen("http://127.0.0.1:0/feed", server: serving)
    let running = Task {
      try await server.run { events in
        connections.withLock { $0 += 1 }
        for await text in step {
          if text == "end" { break }
          try await events.send(text, retry: .milliseconds(700))
        }
      }
    }
    let client = try await EventSource.connect(server.url)
    for text in ["a", "b"] {
      let cancelled = Task { try await client.read() }
      try await Task.sleep(for: .milliseconds(100))
      cancelled.cancel()
      await #expect(throws: CancellationError.self) { try await cancelled.value }
      stepping.yield(text)
      #expect(try await client.read()?.data == text)
    }
    #expect(connections.withLock { $0 } == 1)
    let start = clock.now
    stepping.yield("end")
    for _ in 0..<3 {
      let cancelled = Task { try await client.read() }
      try await Task.sleep(for: .milliseconds(100))
      cancelled.cancel()
      await #expect(throws: CancellationError.self) { try await cancelled.value }
    }
    stepping.yield("c")
    #expect(try await client.read()?.data == "c")
    #expect(clock.now - start >= .milliseconds(690))
    #expect(connections.withLock { $0 } == 2)
    client.cancel(nil)
    running.cancel()
    _ = try? await running.value
  }

  @Test(
    "attack 45: retry: 0 does not make a client spin, whether the server fails or ends each stream at once",
    arguments: ["HTTP/1.1 503 Busy\r\n\r\n", eventStreamHead + "\r\nretry: 0\ndata: b\n\n", ""])
  func retryZero(later: String) async throws {
    let start = clock.now
    let requests = try await withLiteralServer([eventStream("retry: 0\ndata: a\n\n"), Bytes(later)]) { url in
      let client = try await EventSource.connect(url)
      let reading = Task { while try await client.read() != nil {} }
      try await Task.sleep(for: .seconds(2))
      client.cancel(nil)
      try await reading.value
    }
    #expect(requests.count <= Int((clock.now - start) / .milliseconds(100)) + 1, "\(requests.count)")
  }

  @Test("retry times beyond all measure are waited for, without a trap, until the stream is cancelled")
  func retryBeyondMeasure() async throws {
    for digits in ["9223372036853", "9223372036854", "99999999999999999999", "-1"] {
      _ = try await withLiteralServer([eventStream("retry: \(digits)\ndata: a\n\n")]) { url in
        let client = try await EventSource.connect(url)
        #expect(try await client.read()?.data == "a")
        let waiting = Task { try await client.read() }
        try await Task.sleep(for: .milliseconds(100))
        client.cancel(nil)
        #expect(try await waiting.value == nil)
      }
    }
  }

  @Test(
    "attack 45: an id that no field can hold is not named, and does not end the client",
    arguments: ["a\u{1}b", "\u{1B}[2J", String(repeating: "x", count: 20_000), "\u{7F}"])
  func unsendableIDs(id: String) async throws {
    let requests = try await withLiteralServer([
      eventStream("id: \(id)\ndata: a\n\n"), eventStream("id: 2\ndata: b\n\n"), eventStream("data: c\n\n"),
      "HTTP/1.1 204 No Content\r\n\r\n",
    ]) { url in
      let client = try await EventSource.connect(url, options: quickClient)
      #expect(try await client.read() == ServerSentEvent("a", id: id))
      #expect(client.lastEventID == id)
      #expect(try await client.read() == ServerSentEvent("b", id: "2"))
      #expect(try await client.read() == ServerSentEvent("c", id: "2"))
      #expect(try await client.read() == nil)
    }
    #expect(requests.map { $0.contains("Last-Event-ID") } == [false, false, true, true])
  }

  @Test("attack 27: an id of the caller's that no field can hold is thrown at the call")
  func invalidOwnID() async throws {
    let requests = try await withLiteralServer([eventStream("data: a\n\n")]) { url in
      for id in ["a\r\nX: y", "a\u{0}b"] {
        var options = quickClient
        options.lastEventID = id
        let final = options
        await #expect(throws: HTTPFieldError.self) { try await EventSource.connect(url, options: final) }
      }
      for name in ["Accept-Encoding", "cache-control", "Last-Event-ID"] {
        var options = quickClient
        options.headers.append(name: name, value: "x")
        let final = options
        await #expect(throws: HTTPFieldError.reservedName(name)) { try await EventSource.connect(url, options: final) }
      }
    }
    #expect(requests.isEmpty)
  }

  @Test(
    "an HTTP proxy is given the requests of http: themselves, with its credentials and whole URLs (RFC 9112 §3.2.2)")
  func forwarding() async throws {
    let requests = try await withLiteralServer([
      "HTTP/1.1 302 Found\r\nLocation: http://other.test:/b?c\r\nContent-Length: 0\r\n\r\n", eventStream("data: a\n\n"),
    ]) { url in
      var options = quickClient
      options.reconnects = false
      options.headers = ["Cookie": "mine", "Host": "own.test"]
      var proxy = try Proxy(url.replacing("http://", with: "http://ann:secret@"))
      proxy.headers = ["X-Proxy": "7"]
      options.proxy = .through(proxy)
      let client = try await EventSource.connect("http://bob:hidden@origin.test:8080/a", options: options)
      #expect(try await client.read()?.data == "a")
    }
    #expect(requests.count == 2)
    let lines = requests.map { Set($0.split(separator: "\r\n")) }
    let common: Set<Substring> = ["Proxy-Authorization: Basic YW5uOnNlY3JldA==", "X-Proxy: 7"]
    #expect(
      lines[0].isSuperset(
        of: [
          "GET http://origin.test:8080/a HTTP/1.1", "Host: own.test", "Cookie: mine",
          "Authorization: Basic Ym9iOmhpZGRlbg==",
        ])
    )
    #expect(lines[0].isSuperset(of: common))
    #expect(lines[1].isSuperset(of: ["GET http://other.test/b?c HTTP/1.1", "Host: other.test"]))
    #expect(lines[1].isSuperset(of: common))
    #expect(!requests[1].contains("Cookie") && !requests[1].contains("\r\nAuthorization"))
  }

  @Test("a proxy that wants other credentials is told from the origin")
  func proxyRefusal() async throws {
    _ = try await withLiteralServer(["HTTP/1.1 407 No\r\nContent-Length: 3\r\n\r\nwho"]) { url in
      var options = quickClient
      options.proxy = .through(try Proxy(url))
      let final = options
      let error = await #expect(throws: ConnectError.self) {
        try await EventSource.connect("http://origin.test/", options: final)
      }
      guard case .proxyRefused(407, _, "who")? = error else {
        Issue.record("\(String(describing: error))")
        return
      }
    }
  }

  @Test(
    "a refusal is told with what its body says; 425 and the others that pass are tried again, after the time asked for",
    arguments: [408, 425, 429, 500, 503])
  func passingRefusals(status: Int) async throws {
    let refusal = EventSourceError.refused(status: status, headers: [.retryAfter: "7"], bodyStart: "")
    #expect(!ReconnectOptions.isFinalByDefault(refusal) && refusal.retryAfter == .seconds(7))
    let answer = Bytes("HTTP/1.1 \(status) No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwho\r\n0\r\n\r\n")
    _ = try await withLiteralServer([answer]) { url in
      let error = await #expect(throws: EventSourceError.self) { try await EventSource.connect(url) }
      guard case .refused(status, _, "who")? = error else {
        Issue.record("\(String(describing: error))")
        return
      }
    }
    let waits = Mutex<[Duration]>([])
    let late = Bytes("HTTP/1.1 \(status) No\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
    _ = try await withLiteralServer([eventStream("data: a\n\n"), late, late, eventStream("data: b\n\n")]) { url in
      var options = quickClient
      options.maxRetry = .milliseconds(200)
      options.willWait = { delay, _ in waits.withLock { $0.append(delay) } }
      let client = try await EventSource.connect(url, options: options)
      #expect(try await client.read()?.data == "a")
      #expect(try await client.read()?.data == "b")
      client.cancel(nil)
    }
    // No more than the option allows, but for what is added at random.
    #expect(
      waits.withLock { $0.dropFirst().prefix(2).allSatisfy { $0 >= .milliseconds(200) && $0 <= .milliseconds(300) } })
  }

  @Test("the last event's id is that of the event that was read, not of one that has come behind it")
  func lastIDRead() async throws {
    _ = try await withLiteralServer([eventStream("id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\n\n")], holds: true) {
      url in
      let client = try await EventSource.connect(url, options: quickClient)
      #expect(client.lastEventID == nil)
      _ = try await client.read()
      #expect(client.lastEventID == "1")
      _ = try await client.read()
      #expect(client.lastEventID == "2")
      client.cancel(nil)
    }
  }

  @Test("without coming back: an end gives nil, a loss throws, and gives the same again")
  func endsAndLosses() async throws {
    var options = quickClient
    options.reconnects = false
    let final = options
    for (head, isLost) in [
      ("Content-Length: 9\r\n\r\ndata: a\n\n", false), ("\r\ndata: a\n\n", false),
      ("Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n0\r\n\r\n", false),
      ("Content-Length: 19\r\n\r\ndata: a\n\n", true),
      ("Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n", true),
      ("Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\nzz\r\n", true),
    ] {
      let requests = try await withLiteralServer([Bytes(eventStreamHead + head)]) { url in
        let client = try await EventSource.connect(url, options: final)
        #expect(try await client.read()?.data == "a")
        for _ in 0..<2 {
          if isLost {
            await #expect(throws: (any Error).self, "\(head)") { try await client.read() }
          } else {
            #expect(try await client.read() == nil, "\(head)")
          }
        }
      }
      #expect(requests.count == 1)
    }
  }

  @Test("204 at the first connection is an empty stream")
  func nothingAtAll() async throws {
    let requests = try await withLiteralServer(["HTTP/1.1 204 No Content\r\n\r\n"]) { url in
      let client = try await EventSource.connect(url, options: quickClient)
      #expect(try await client.read() == nil)
      #expect(try await client.read() == nil)
    }
    #expect(requests.count == 1)
  }

  @Test("what is final is thrown again and again, without another connection")
  func finalErrors() async throws {
    var options = quickClient
    options.limits.maxEventBytes = 10
    let final = options
    let requests = try await withLiteralServer([eventStream("data: a\n\ndata: longer than that\n\n")]) { url in
      let client = try await EventSource.connect(url, options: final)
      #expect(try await client.read()?.data == "a")
      for _ in 0..<2 { await #expect(throws: StreamError.self) { try await client.read() } }
    }
    #expect(requests.count == 1)
  }

  @Test("user and password of the URL are sent, also behind a redirect within the origin, and nowhere else")
  func credentials() async throws {
    let elsewhere = try await TCP.listen("127.0.0.1", port: 0)
    let other = Task {
      let socket = try await elsewhere.read()
      let head = try await socket?.read()?.string
      try await socket?.write(eventStream("data: a\n\n"))
      return head ?? ""
    }
    let requests = try await withLiteralServer([
      "HTTP/1.1 307 Moved\r\nLocation: /there\r\n\r\n",
      Bytes("HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:\(elsewhere.port)/\r\n\r\n"),
    ]) { url in
      let client = try await EventSource.connect(url.replacing("//", with: "//token@"), options: quickClient)
      #expect(try await client.read()?.data == "a")
      client.cancel(nil)
    }
    #expect(requests.count == 2)
    // RFC 7617 §2: a user without a password has the colon behind it.
    for request in requests { #expect(request.contains("\r\nAuthorization: Basic dG9rZW46\r\n")) }
    #expect(!(try await other.value).contains("Authorization"))
    elsewhere.cancel()
  }

  // MARK: gears

  @Test("a pipe within the loop goes on over connections that are lost, at the sink's pace", arguments: [1, 20_000])
  func pipes(count: Int) async throws {
    let text = String(repeating: "x", count: 100)
    let answers = (0..<3).map { part in
      eventStream("retry: 1\n\n" + (0..<count).map { "data: \(part) \($0) \(text)\n\n" }.joined())
    }
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let reading = Task {
      let socket = try await listener.read()
      var all: [String] = []
      for try await line in try #require(socket).lines { all.append(line) }
      socket?.abort(StreamError.aborted)
      return all
    }
    _ = try await withLiteralServer(answers + ["HTTP/1.1 204 No Content\r\n\r\n"]) { url in
      let client = try await EventSource.connect(url, options: quickClient)
      let sink = try await TCP.connect("127.0.0.1", port: listener.port)
      try await client.map { Bytes($0.data + "\n") }.pipe(sink)
      sink.cancel(nil)
    }
    let expected = (0..<3).flatMap { part in (0..<count).map { "\(part) \($0) \(text)" } }
    #expect(try await reading.value == expected)
    listener.cancel(nil)
  }

  @Test("a client that is dropped ends its connection")
  func dropped() async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let serving = Task {
      let socket = try #require(try await listener.read())
      _ = try await socket.read()
      try await socket.write(eventStream("data: a\n\n"))
      let next = try? await socket.read()
      socket.abort(StreamError.aborted)
      return next == nil
    }
    do {
      let client = try await EventSource.connect("http://127.0.0.1:\(listener.port)/", options: quickClient)
      #expect(try await client.read()?.data == "a")
    }
    #expect(try await serving.value)
    listener.cancel(nil)
  }

  // MARK: what is asked

  @Test("a method and a body are sent, once, with an Accept of one's own")
  func post() async throws {
    var options = quickClient
    options.headers = ["Accept": "application/json, text/event-stream", "Content-Type": "application/json"]
    let final = options
    let requests = try await withLiteralServer([eventStream("data: a\n\n")]) { url in
      let client = try await EventSource.connect(url, method: .post, body: "{}", options: final)
      #expect(try await client.read()?.data == "a")
      // Nobody asked for it twice.
      #expect(try await client.read() == nil)
    }
    #expect(requests.count == 1)
    #expect(
      requests[0].hasPrefix("POST /feed HTTP/1.1\r\n") && requests[0].hasSuffix("\r\nContent-Length: 2\r\n\r\n{}"))
    #expect(requests[0].contains("\r\nAccept: application/json, text/event-stream\r\n"))
    #expect(requests[0].ranges(of: "Accept: ").count == 1)
  }

  @Test("one that comes back by its own will sends its body each time, and an empty one says so")
  func repeatedPost() async throws {
    var options = quickClient
    options.reconnects = true
    let final = options
    for body in ["question", nil] as [Bytes?] {
      let requests = try await withLiteralServer([
        eventStream("id: 7\ndata: a\n\n"), eventStream("data: b\n\n"), "HTTP/1.1 204 No Content\r\n\r\n",
      ]) { url in
        let client = try await EventSource.connect(url, method: .post, body: body, options: final)
        var data: [String] = []
        for try await event in client { data.append(event.data) }
        #expect(data == ["a", "b"])
      }
      let text = body?.string ?? ""
      for request in requests { #expect(request.hasSuffix("\r\nContent-Length: \(text.utf8.count)\r\n\r\n\(text)")) }
      #expect(requests.map { $0.contains("Last-Event-ID: 7\r\n") } == [false, true, true])
    }
  }

  @Test(
    "a redirect keeps the method and the body, or makes a GET of them (RFC 9110 §15.4)",
    arguments: [(301, false), (302, false), (303, false), (307, true), (308, true)])
  func redirectedPost(status: Int, isKept: Bool) async throws {
    var options = quickClient
    options.headers = ["Content-Type": "text/plain", "X-Other": "kept"]
    let final = options
    let requests = try await withLiteralServer([
      Bytes("HTTP/1.1 \(status) Elsewhere\r\nLocation: /there\r\n\r\n"), eventStream("data: a\n\n"),
    ]) { url in
      let client = try await EventSource.connect(url, method: .post, body: "hello", options: final)
      #expect(try await client.read()?.data == "a")
      client.cancel(nil)
    }
    #expect(requests[1].hasPrefix(isKept ? "POST /there " : "GET /there "))
    #expect(requests[1].hasSuffix("\r\n\r\nhello") == isKept && requests[1].contains("Content-Type") == isKept)
    #expect(requests[1].contains("Content-Length") == isKept && requests[1].contains("X-Other: kept"))
  }

  private func literal(_ answers: [String], _ body: (String) async throws -> Void) async throws -> [String] {
    try await withLiteralServer(answers.map { Bytes($0) }, body)
  }

  @Test("bodies in chunks, of a length and to the end; 204 ends the stream")
  func bodies() async throws {
    let requests = try await literal([
      eventStreamHead + "Transfer-Encoding: chunked\r\n\r\n8\r\nid: 1\nda\r\n8\r\nta: a\n\nd\r\n3\r\nata\r\n0\r\n\r\n",
      "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 100 C\r\n\r\n" + eventStreamHead
        + "Content-Length: 9\r\n\r\ndata: b\n\ndata: not this\n\n", eventStreamHead + "\r\ndata: c\n\n",
      "HTTP/1.1 204 No Content\r\n\r\n",
    ]) { url in
      let client = try await EventSource.connect(url, options: quickClient)
      var events: [ServerSentEvent] = []
      for try await event in client { events.append(event) }
      #expect(events == [.init("a", id: "1"), .init("b", id: "1"), .init("c", id: "1")])
    }
    #expect(requests.count == 4)
    #expect(!requests[0].contains("Last-Event-ID"))
    for request in requests.dropFirst() { #expect(request.contains("\r\nLast-Event-ID: 1\r\n")) }
  }

  @Test("what is no event stream is a clear error, at first and later")
  func refusals() async throws {
    for answer in [
      "HTTP/1.1 404 Not Found\r\n\r\nnowhere", "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
      "HTTP/1.1 200 OK\r\n\r\n", String(repeating: "HTTP/1.1 100 C\r\n\r\n", count: 2000), "HTTP/1.1 101 S\r\n\r\n",
      "nonsense\r\n\r\n", eventStreamHead + "Content-Encoding: br\r\n\r\n",
      eventStreamHead + "Transfer-Encoding: gzip\r\n\r\n", "",
    ] {
      _ = try await literal([answer]) { url in
        await #expect(throws: EventSourceError.self, "\(answer)") {
          try await EventSource.connect(url, options: quickClient)
        }
      }
    }
    _ = try await literal([eventStreamHead + "\r\ndata: a\n\n", "HTTP/1.1 503 Busy\r\n\r\n", "HTTP/1.1 403 No\r\n\r\n"])
    {
      url in
      let client = try await EventSource.connect(url, options: quickClient)
      #expect(try await client.read()?.data == "a")
      await #expect(throws: EventSourceError.self) { try await client.read() }
    }
  }

  @Test("attack 45: redirects are followed, without secrets to another origin, and not round and round")
  func redirects() async throws {
    var options = quickClient
    options.headers = ["Authorization": "Bearer secret", "X-Other": "kept"]
    let requests = try await literal([
      "HTTP/1.1 301 Moved\r\nLocation: /again\r\n\r\n",
      "HTTP/1.1 307 Moved\r\nLocation: http://localhost:PORT/there\r\n\r\n",
      eventStreamHead + "\r\ndata: a\n\n",
    ]) { url in
      let client = try await EventSource.connect(url, options: options)
      #expect(try await client.read()?.data == "a")
      client.cancel(nil)
    }
    #expect(requests.count >= 3)
    #expect(requests[1].hasPrefix("GET /again ") && requests[1].contains("secret"))
    #expect(
      requests[2].hasPrefix("GET /there ") && !requests[2].contains("secret") && requests[2].contains("X-Other: kept"))
    _ = try await literal(["HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n"]) { url in
      await #expect(throws: EventSourceError.self) { try await EventSource.connect(url, options: quickClient) }
    }
  }

  @Test("a second concurrent read throws, and silence beyond its limit is a lost connection")
  func contract() async throws {
    try await servingEvents(unhurried) { events in
      try await events.send("a")
      try await Task.sleep(for: .seconds(60))
    } _: { server in
      var options = quickClient
      options.silenceTimeout = .milliseconds(100)
      let client = try await EventSource.connect(server.url, options: options)
      #expect(try await client.read()?.data == "a")
      let waiting = Task { try await client.read() }
      try await Task.sleep(for: .milliseconds(30))
      await #expect(throws: StreamError.concurrentRead) { try await client.read() }
      // It came back, and got the first event again.
      #expect(try await waiting.value?.data == "a")
      client.cancel(nil)
      #expect(try await client.read() == nil)
    }
  }
}
