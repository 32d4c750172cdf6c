import Sluice
import SluiceStreams
import SluiceTestSupport
import Synchronization
import Testing

@Suite("A server of event streams", .timeLimit(.minutes(1)))
struct EventStreamServerTests {
  @Test("events arrive as they were sent, of every size")
  func events() async throws {
    let sent = [
      ServerSentEvent("a"), ServerSentEvent("two\nlines", event: "kind", id: "1"), ServerSentEvent("", id: "2"),
      ServerSentEvent(String(repeating: "grüße ", count: 50_000), id: "3"),
    ]
    try await servingEvents { events in
      for event in sent { try await events.write(event) }
      try await Task.sleep(for: .seconds(60))
    } _: { server in
      let client = try await EventSource.connect(server.url, options: quickClient)
      for event in sent {
        let received = try await client.read()
        #expect(received == event)
      }
      #expect(client.lastEventID == "3")
      client.cancel(nil)
    }
  }

  @Test("a slow client holds its producer, and one that leaves ends it")
  func backpressure() async throws {
    let count = Mutex(0)
    let ended = Mutex(false)
    try await servingEvents { events in
      defer { ended.withLock { $0 = true } }
      let text = String(repeating: "x", count: 10_000)
      while true {
        try await events.send(text)
        count.withLock { $0 += 1 }
      }
    } _: { server in
      let client = try await EventSource.connect(server.url, options: quickClient)
      #expect(try await client.read()?.data.count == 10_000)
      try await Task.sleep(for: .milliseconds(300))
      let held = count.withLock { $0 }
      try await Task.sleep(for: .milliseconds(200))
      #expect(count.withLock { $0 } == held && held < 5000)
      for _ in 0..<500 { _ = try await client.read() }
      client.cancel(nil)
      for _ in 0..<500 where !ended.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(10)) }
      #expect(ended.withLock { $0 })
    }
  }

  @Test("whether a stream is open can be asked for on every thread, also when its client has left")
  func isOpen() async throws {
    let (streams, opened) = AsyncStream.makeStream(of: EventStreamConnection.self)
    try await servingEvents { events in
      opened.yield(events)
      try await events.waitUntilClosed()
    } _: { server in
      let client = try await EventSource.connect(server.url, options: quickClient)
      for await events in streams {
        #expect(events.isOpen)
        client.cancel(nil)
        for _ in 0..<500 where events.isOpen { try await Task.sleep(for: .milliseconds(10)) }
        #expect(!events.isOpen)
        break
      }
    }
  }

  enum Waiting: CaseIterable { case untilClosed, forRoom }

  @Test(
    "a handler's wait ends when its task is cancelled, by whomever", arguments: Waiting.allCases, Cancelling.allCases)
  func cancelledWait(_ waiting: Waiting, _ cancelling: Cancelling) async throws {
    let ended = Mutex<Bool?>(nil)
    try await servingEvents { events in
      let error = await cancelling.cancel(after: .milliseconds(300)) {
        switch waiting {
        case .untilClosed: try await events.waitUntilClosed()
        case .forRoom: while true { try await events.send(String(repeating: "x", count: 10_000)) }
        }
      }
      ended.withLock { $0 = error is CancellationError }
    } _: { server in
      let client = try await EventSource.connect(server.url, options: quickClient)
      for _ in 0..<500 where ended.withLock({ $0 }) == nil { try await Task.sleep(for: .milliseconds(10)) }
      #expect(ended.withLock { $0 } == true)
      client.cancel(nil)
    }
  }

  @Test("a stream is also a sink: anything pipes into it")
  func pipes() async throws {
    try await servingEvents(unhurried) { events in
      try await SequenceStream(1...100).map { ServerSentEvent("\($0)") }.pipe(events)
    } _: { server in
      var options = quickClient
      options.reconnects = false
      let client = try await EventSource.connect(server.url, options: options)
      var numbers: [Int] = []
      for try await event in client { numbers.append(Int(event.data) ?? -1) }
      #expect(numbers == Array(1...100))
    }
  }

  @Test("in TLS")
  func secure() async throws {
    let certificates = try await Certificates.load()
    var client = quickClient
    client.tls = try certificates.client()
    let trusting = client
    try await servingEvents(tls: certificates.server()) { events in
      #expect(events.url.hasPrefix("https://127.0.0.1:"))
      try await events.send("secret")
      try await Task.sleep(for: .seconds(60))
    } _: { server in
      let feed = try await EventSource.connect(server.url, options: trusting)
      #expect(try await feed.read()?.data == "secret")
      feed.cancel(nil)
      await #expect(throws: TLSError.self) { try await EventSource.connect(server.url) }
    }
  }

  @Test("the answer on the wire, in chunks to HTTP/1.1 and to the end to HTTP/1.0")
  func wire() async throws {
    var options = EventSourceServerOptions()
    options.origins = .only("https://example.com")
    options.headers = ["X-Feed": "7"]
    options.onRequest = { request in ["X-Path": request.path ?? ""] }
    let chunked = try await answer(
      "GET /feed?x HTTP/1.1\r\nHost: a\r\nOrigin: https://example.com\r\nAccept: text/event-stream\r\n\r\n", options)
    #expect(chunked.hasPrefix("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"))
    #expect(
      chunked.contains("Access-Control-Allow-Origin: https://example.com\r\n") && chunked.contains("X-Feed: 7\r\n"))
    #expect(chunked.contains("X-Path: /feed?x\r\n"))
    #expect(chunked.hasSuffix("\r\n\r\nd\r\nretry: 5000\n\n\r\n13\r\nid: 1\ndata: hello\n\n\r\n0\r\n\r\n"))
    let plain = try await answer("GET /feed HTTP/1.0\r\n\r\n")
    #expect(plain.hasSuffix("\r\n\r\nretry: 5000\n\nid: 1\ndata: hello\n\n") && !plain.contains("chunked"))
    let head = try await answer("HEAD /feed HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(head.hasPrefix("HTTP/1.1 200 OK\r\n") && head.hasSuffix("\r\n\r\n"))
  }

  @Test("compressed where the client accepts it, and each event can be read at once")
  func gzip() async throws {
    var options = unhurried
    options.compresses = true
    let (step, stepping) = AsyncStream<Int>.makeStream()
    let long = String(repeating: "grüße ", count: 50_000)
    try await servingEvents(options) { events in
      try await events.send("0", id: "0")
      for await number in step {
        try await events.send(number == 3 ? long : "\(number)", id: "\(number)")
        if number == 4 { break }
      }
    } _: { server in
      var client = quickClient
      client.reconnects = false
      let feed = try await EventSource.connect(server.url, options: client)
      for number in 0...4 {
        #expect(try await feed.read() == ServerSentEvent(number == 3 ? long : "\(number)", id: "\(number)"))
        stepping.yield(number + 1)
      }
      #expect(try await feed.read() == nil)
    }
    let request = { (field: String) in "GET /feed HTTP/1.1\r\nHost: a\r\n\(field)\r\n" }
    for (field, isCompressed) in [
      ("Accept-Encoding: gzip\r\n", true), ("Accept-Encoding: br, GZIP;q=0.5\r\n", true), ("", false),
      ("Accept-Encoding: gzip;q=0\r\n", false), ("Accept-Encoding: br\r\n", false),
    ] {
      // What is short stands there as it is, behind a block's head.
      let answer = try await answer(request(field), options)
      #expect(answer.contains("\r\nContent-Encoding: gzip\r\n") == isCompressed, "\(field)")
      #expect(answer.contains("\r\nVary: Accept-Encoding\r\n"))
      #expect(answer.contains("\r\nid: 1\ndata: hello\n") != isCompressed)
    }
    #expect(!(try await answer(request("Accept-Encoding: gzip\r\n"))).contains("Content-Encoding"))
  }

  @Test("an observer is told of streams, events, refusals, what was missed and full watermarks")
  func observer() async throws {
    let seen = Seen()
    var options = unhurried
    options.observer = seen
    options.onRequest = { request in
      if request.path == "/feed?no" { throw RequestRejection(status: 403, reason: "no") }
      return [:]
    }
    let broadcast = EventBroadcast(whenSlow: .dropNewest)
    let long = String(repeating: "x", count: 1 << 20)
    try await servingEvents(options) { events in
      try await events.send("one")
      try await broadcast.serve(events) {
        try await broadcast.write(ServerSentEvent("two"))
        // More than the kernel takes from a client that does not read: then it has no room.
        for _ in 0..<20 { try await broadcast.write(ServerSentEvent(long)) }
      }
      events.abort(StreamError.aborted)
    } _: { server in
      let refused = try await TCP.connect("127.0.0.1", port: server.port)
      try await refused.write("GET /feed?no HTTP/1.1\r\nHost: a\r\n\r\n")
      #expect(try await refused.read()?.string.hasPrefix("HTTP/1.1 403 ") == true)
      try await refused.close()
      let socket = try await TCP.connect("127.0.0.1", port: server.port)
      try await socket.write("GET /feed HTTP/1.0\r\n\r\n")
      for _ in 0..<500 where seen.counts["end"] == nil { try await Task.sleep(for: .milliseconds(10)) }
      socket.abort(StreamError.aborted)
      let counts = seen.counts
      #expect(counts["refuse 403"] == 1 && counts["open"] == 1 && counts["end"] == 1)
      let (sent, missed) = (counts["send", default: 0], counts["miss", default: 0])
      #expect(sent + missed == 22 && missed > 0 && counts["full", default: 0] > 0)
      #expect(counts["bytes"] == 11 + 11 + (sent - 2) * ((1 << 20) + 8))
    }
  }

  private final class Seen: EventSourceObserver {
    private let lines = Mutex<[String: Int]>([:])
    var counts: [String: Int] { lines.withLock { $0 } }

    private func add(_ what: String, _ number: Int = 1) { lines.withLock { $0[what, default: 0] += number } }
    func didOpen() { add("open") }
    func didRefuse(status: Int) { add("refuse \(status)") }
    func didSend(byteCount: Int) {
      add("send")
      add("bytes", byteCount)
    }
    func didMiss() { add("miss") }
    func didReachHighWatermark() { add("full") }
    func didEnd() { add("end") }
  }

  @Test(
    "other requests get the right status",
    arguments: [
      ("POST /feed HTTP/1.1\r\nHost: a\r\n\r\n", 405), ("GET /other HTTP/1.1\r\nHost: a\r\n\r\n", 404),
      ("GET /feed HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n", 406), ("GET /feed HTTP/1.1\r\n\r\n", 400),
      ("GET /feed HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 400), ("nonsense\r\n\r\n", 400),
      ("GET /feed HTTP/1.1\r\nHost: a\r\nAccept: text/html, */*;q=0.1\r\n\r\n", 200),
    ])
  func statuses(_ request: String, _ status: Int) async throws {
    #expect(try await answer(request).hasPrefix("HTTP/1.1 \(status) "))
  }

  @Test(
    "whatever a check of the application's throws is answered, and ends the connection",
    arguments: [(403, 403), (599, 599), (200, 500), (0, 500), (-5, 500), (99_999, 500), (302, 500)])
  func rejections(thrown: Int, answered: Int) async throws {
    var options = EventSourceServerOptions()
    options.onRequest = { _ in throw RequestRejection(status: thrown, reason: "no") }
    let text = try await answer("GET /feed HTTP/1.1\r\nHost: a\r\n\r\n", options)
    #expect(
      text.hasPrefix("HTTP/1.1 \(answered) ") && text.hasSuffix(answered == thrown ? "no\n" : "internal server error\n")
    )
    let head = try await answer("HEAD /feed HTTP/1.1\r\nHost: a\r\n\r\n", options)
    #expect(head.hasPrefix("HTTP/1.1 \(answered) ") && head.hasSuffix("\r\n\r\n"))
  }

  @Test("the application takes its time over a request; a client that leaves meanwhile ends the question")
  func asking() async throws {
    try await SimulatedLoop.run { loop in
      let network = SimulatedNetwork(loop: loop)
      let wasCancelled = Mutex(false)
      var options = EventSourceServerOptions()
      options.onRequest = { request in
        do { try await loop.sleep(for: request.path == "/late" ? .seconds(3) : .seconds(3600)) } catch {
          wasCancelled.withLock { $0 = true }
          throw error
        }
        return ["X-Late": "yes"]
      }
      let final = options
      let (near, far) = network.connection()
      let accepting = Task(executorPreference: loop) { try await EventSource.accept(over: far, options: final) }
      try await near.write("GET /late HTTP/1.1\r\nHost: a\r\n\r\nmore")
      let events = try await accepting.value
      #expect(loop.now >= .seconds(3) && events.path == "/late" && events.query == nil && events.parameters.isEmpty)
      #expect(try await near.read()?.string.contains("X-Late: yes\r\n") == true)
      events.abort()

      let (gone, left) = network.connection()
      let refusing = Task(executorPreference: loop) { try await EventSource.accept(over: left, options: final) }
      try await gone.write("GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
      try await loop.sleep(for: .seconds(1))
      try await gone.close()
      await #expect(throws: RequestRejection.self) { _ = try await refusing.value }
      #expect(wasCancelled.withLock { $0 } && loop.now < .seconds(60))
    }
  }

  @Test("a client that takes nothing is cut in time, and its producer is told; one that is slow is not")
  func stalled() async throws {
    var options = unhurried
    options.stallTimeout = .seconds(1)
    let ends = Mutex<[String]>([])
    let text = String(repeating: "x", count: 60_000)
    try await servingEvents(options) { events in
      do {
        for _ in 0..<400 { try await events.send(text) }
        ends.withLock { $0.append("all") }
      } catch {
        ends.withLock { $0.append("\(error)") }
      }
    } _: { server in
      let silent = try await TCP.connect("127.0.0.1", port: server.port)
      try await silent.write("GET /feed HTTP/1.0\r\n\r\n")
      for _ in 0..<2000 where ends.withLock({ $0.isEmpty }) { try await Task.sleep(for: .milliseconds(10)) }
      #expect(ends.withLock { $0 } == ["\(EventSourceError.stalled(.seconds(1)))"])
      silent.abort(StreamError.aborted)
      let slow = try await TCP.connect("127.0.0.1", port: server.port)
      try await slow.write("GET /feed HTTP/1.0\r\n\r\n")
      // On the loop's thread, where other tests that are busy don't hold it up.
      try await withTaskExecutorPreference(UVLoop.shared) {
        while try await slow.read() != nil { try await Task.sleep(for: .milliseconds(5)) }
      }
      for _ in 0..<500 where ends.withLock({ $0.count < 2 }) { try await Task.sleep(for: .milliseconds(10)) }
      #expect(ends.withLock { $0.last } == "all")
      slow.abort(StreamError.aborted)
    }
  }

  @Test("the last event arrives whole at a client that takes its time; one that takes nothing does not hold the end")
  func slowEnd() async throws {
    var options = unhurried
    options.closeTimeout = .seconds(1)
    let text = String(repeating: "x", count: 20_000_000)
    let ended = Mutex(0)
    try await servingEvents(options) { events in
      try events.push(ServerSentEvent(text))
      try await events.close()
      ended.withLock { $0 += 1 }
    } _: { server in
      let slow = try await TCP.connect("127.0.0.1", port: server.port)
      try await slow.write("GET /feed HTTP/1.0\r\n\r\n")
      let count = try await withTaskExecutorPreference(UVLoop.shared) {
        var count = 0
        while let bytes = try await slow.read() {
          count += bytes.count
          try await Task.sleep(for: .milliseconds(5))
        }
        return count
      }
      #expect(count > text.utf8.count && ended.withLock { $0 } == 1)
      slow.abort(StreamError.aborted)
      let silent = try await TCP.connect("127.0.0.1", port: server.port)
      try await silent.write("GET /feed HTTP/1.0\r\n\r\n")
      try await Task.sleep(for: .milliseconds(200))
      // At the end of the server it holds nothing up either: see `serving`.
    }
  }

  @Test("times beyond what can be written are as long as can be written")
  func retryBeyondMeasure() async throws {
    for (retry, text) in [
      (Duration.seconds(Int64.max), "9223372036854775807"),
      (.seconds(Int64.max) + .milliseconds(999), "9223372036854775807"),
      (
        Duration(secondsComponent: 9_223_372_036_854_775, attosecondsComponent: 999_000_000_000_000_000),
        "9223372036854775807"
      ),
      (.microseconds(1999), "1"), (.zero, "0"),
    ] {
      var options = EventSourceServerOptions()
      options.retry = retry
      #expect(try await answer("GET /feed HTTP/1.0\r\n\r\n", options).contains("\r\n\r\nretry: \(text)\n\n"))
      let line = try EventStreamConnection.prepare(ServerSentEvent("a", retry: retry)).text.string
      #expect(line.hasPrefix("retry: \(text)\n"))
    }
  }

  @Test("a request that asks for an event stream is told from others")
  func isEventSource() {
    func request(_ accept: String?, _ method: HTTPRequest.Method = .get) -> HTTPRequest {
      var request = HTTPRequest(method: method, scheme: "http", authority: "a", path: "/")
      request.headerFields[.accept] = accept
      return request
    }
    #expect(EventSource.isEventSource(request("text/event-stream")))
    #expect(EventSource.isEventSource(request("text/html, Text/Event-Stream; q=0.5")))
    #expect(EventSource.isEventSource(request("text/event-stream;v=1;q=0.1, text/event-stream;q=0")))
    for accept in [
      nil, "*/*", "text/html", "text/event-streams", "text/event-stream;q=0", "text/event-stream;v=1;q=0",
      "text/event-stream; q=0.000", "*/*, text/event-stream;q=0", "text/event-stream;q=x", ";q=1", "",
    ] as [String?] {
      #expect(!EventSource.isEventSource(request(accept)), "\(accept ?? "none")")
    }
    #expect(!EventSource.isEventSource(request("text/event-stream", .post)))
  }

  @Test("comments keep a silent connection alive")
  func pings() async throws {
    var options = unhurried
    options.ping = .milliseconds(20)
    try await servingEvents(options) { _ in
      try await Task.sleep(for: .milliseconds(500))
    } _: { server in
      let socket = try await TCP.connect("127.0.0.1", port: server.port)
      try await socket.write("GET /feed HTTP/1.0\r\n\r\n")
      var answer = ""
      while let chunk = try await socket.read() { answer += chunk.string }
      #expect(answer.hasSuffix("\r\n\r\n:\n\n:\n\n") || answer.contains(":\n\n:\n\n:\n\n"))
    }
  }
}
