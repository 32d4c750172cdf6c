#if NIO
  import Sluice
  import SluiceNIO
  import Synchronization
  import Testing

  @Suite("Event streams in a SwiftNIO pipeline", .timeLimit(.minutes(1)))
  struct EventSourceHandlerTests {
    private let request = "GET /feed HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n"

    @Test("events arrive, and a client that comes back says what it has seen", arguments: [false, true])
    func events(isCompressed: Bool) async throws {
      var options = EventSourceServerOptions()
      options.retry = .milliseconds(10)
      options.compresses = isCompressed
      let long = String(repeating: "long ", count: 100_000)
      let feed: @Sendable () -> EventSourceHandler = { [options] in
        EventSourceHandler(options: options) { events in
          let first = (events.lastEventID.flatMap { Int($0) } ?? -1) + 1
          // Two for each connection.
          for number in first..<first + 2 {
            try await events.send(number == 1 ? long : "\(number)", id: "\(number)")
          }
        }
      }
      try await NIOServer.run(feed: feed) { server in
        let client = try await EventSource.connect("http://127.0.0.1:\(server.port)/feed")
        for number in 0..<6 {
          #expect(try await client.read() == ServerSentEvent(number == 1 ? long : "\(number)", id: "\(number)"))
        }
        client.cancel(nil)
      }
    }

    @Test("what is no request for an event stream passes, before one and in spite of one on other connections")
    func passes() async throws {
      let feed: @Sendable () -> EventSourceHandler = { EventSourceHandler { try await $0.send("event") } }
      try await NIOServer.run(feed: feed) { server in
        let other = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        #expect(try await server.answer(to: other, until: "page").hasSuffix("page"))
        // On one connection: a page, and a stream behind it, which is the last answer.
        let answer = try await server.answer(to: other + request + "\r\n" + other)
        #expect(answer.contains("page") && answer.contains("data: event\n") && answer.hasSuffix("0\r\n\r\n"))
        #expect(answer.split(separator: "HTTP/1.1 200 OK").count == 2)
      }
    }

    @Test("refusals have their status, HEAD no body, and the channel closes behind them")
    func refusals() async throws {
      let feed: @Sendable () -> EventSourceHandler = {
        var options = EventSourceServerOptions()
        options.onRequest = { request in
          if request.path == "/secret" { throw RequestRejection(status: 403, reason: "not for you") }
          return [:]
        }
        let isMeant: @Sendable (HTTPRequest) -> Bool = { $0.path != "/" }
        return EventSourceHandler(options: options, answering: isMeant) { try await $0.send("event") }
      }
      try await NIOServer.run(feed: feed) { server in
        for (request, status) in [
          (request + "Content-Length: 2\r\n\r\nhi", 400), ("POST /feed HTTP/1.1\r\nHost: a\r\n\r\n", 405),
          ("GET /feed HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n", 406),
          ("GET /secret HTTP/1.1\r\nHost: a\r\n\r\n", 403), ("HEAD /feed HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ] {
          let answer = try await server.answer(to: request)
          #expect(answer.hasPrefix("HTTP/1.1 \(status) ") && !answer.contains("event\n"), "\(answer)")
        }
      }
    }

    @Test("a slow client holds the producer; one that leaves ends it")
    func backpressure() async throws {
      let sent = Counter()
      let ended = Mutex(false)
      let feed: @Sendable () -> EventSourceHandler = {
        EventSourceHandler { events in
          defer { ended.withLock { $0 = true } }
          let chunk = String(repeating: "x", count: 100_000)
          while true {
            try await events.send(chunk)
            _ = sent.next()
          }
        }
      }
      try await NIOServer.run(feed: feed) { server in
        let socket = try await TCP.connect("127.0.0.1", port: server.port)
        try await socket.write(Bytes(request + "\r\n"))
        _ = try await socket.read()
        // The producer comes to a halt: the same count twice, 50 ms apart.
        var last = -1
        while sent.value != last {
          last = sent.value
          try await Task.sleep(for: .milliseconds(50))
        }
        #expect(last < 300)
        socket.abort(StreamError.aborted)
        for _ in 0..<200 where !ended.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(10)) }
        #expect(ended.withLock { $0 })
      }
    }
  }
#endif
