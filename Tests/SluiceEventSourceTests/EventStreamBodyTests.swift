import Sluice
import SluiceHTTP
import SluiceTestSupport
import SluiceZlib
import Synchronization
import Testing

@Suite("Bodies of event streams: framing, codings and bombs", .timeLimit(.minutes(1)))
struct EventStreamBodyTests {
  /// A gzip stream of parts, each flushed, with its end or without.
  private func gzip(_ parts: [String], isWhole: Bool = true) -> Bytes {
    var writer = GzipWriter(DeflateSettings(windowBits: 15))
    var out = BytesBuilder()
    out.append(GzipWriter.header)
    for part in parts { writer.append(Bytes(part).span, to: &out) }
    if isWhole { writer.finish(to: &out) }
    return out.take()
  }

  /// What a client gets of an answer that comes in pieces, each in a segment of its own.
  private func events(
    _ pieces: [Bytes], _ options: EventSourceClientOptions = quickClient
  ) async throws -> (data: [String], error: (any Error)?) {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let serving = Task {
      let socket = try await listener.read()
      _ = try await socket?.read()
      for piece in pieces {
        try await socket?.write(piece)
        if pieces.count > 1 { try await Task.sleep(for: .milliseconds(5)) }
      }
      try await socket?.close()
    }
    defer {
      listener.cancel(nil)
      serving.cancel()
    }
    var options = options
    options.reconnects = false
    let client = try await EventSource.connect("http://127.0.0.1:\(listener.port)/", options: options)
    var data: [String] = []
    do { while let event = try await client.read() { data.append(event.data) } } catch { return (data, error) }
    return (data, nil)
  }

  enum Framing: CaseIterable {
    case untilEnd, length, chunked

    func frame(_ fields: String, _ body: Bytes) -> Bytes {
      var framed = BytesBuilder()
      framed.append(eventStreamHead + fields)
      switch self {
      case .untilEnd: framed.append("\r\n")
      case .length: framed.append("Content-Length: \(body.count)\r\n\r\n")
      case .chunked: framed.append("Transfer-Encoding: chunked\r\n\r\n")
      }
      guard self == .chunked else {
        framed.append(body)
        return framed.take()
      }
      framed.append(chunk: body.span)
      framed.appendLastChunk()
      return framed.take()
    }
  }

  @Test(
    "a gzip body arrives whole, in any framing and any segments",
    arguments: Framing.allCases, [nil, 1, 7, 50, 120] as [Int?])
  func gzipSegments(framing: Framing, size: Int?) async throws {
    let answer = framing.frame(
      "Content-Encoding: gzip\r\n", gzip(["data: one\n\n", "data: t", "wo\n\n", "data: three\n\n"]))
    var pieces: [Bytes] = []
    if let size {
      var rest = answer
      while !rest.isEmpty {
        pieces.append(rest.prefix(size))
        rest = rest.dropFirst(size)
      }
    } else {
      // The head in a segment of its own.
      let end = try #require(answer.firstRange(of: "\r\n\r\n" as Bytes)).upperBound
      pieces = [answer[..<end], answer[end...]]
    }
    let (data, error) = try await events(pieces)
    #expect(data == ["one", "two", "three"] && error == nil)
  }

  @Test("what inflates to a step's size to the byte loses nothing behind it", arguments: [-1, 0, 1], [1, 2, 3])
  func gzipSteps(more: Int, steps: Int) async throws {
    let long = String(repeating: "z", count: (steps << 16) + more - 8)
    let body = gzip(["data: \(long)\n\n", "data: after\n\n"])
    let (data, error) = try await events([Framing.untilEnd.frame("Content-Encoding: gzip\r\n", body)])
    #expect(data == [long, "after"] && error == nil)
  }

  @Test("codings are a list, undone from the last to the first; a member may follow another")
  func codings() async throws {
    let once = gzip(["data: a\n\n"])
    var twice = BytesBuilder()
    var writer = GzipWriter(DeflateSettings(windowBits: 15))
    twice.append(GzipWriter.header)
    writer.append(once.span, to: &twice)
    writer.finish(to: &twice)
    let doubled = twice.take()
    for (field, body) in [
      ("gzip, identity", once), ("identity,gzip", once), (", x-GZIP ,,\tidentity", once),
      ("identity\r\nContent-Encoding: gzip", once), ("gzip,gzip", doubled),
      ("gzip\r\nContent-Encoding:\t gzip", doubled),
      ("", "data: a\n\n"), ("identity", "data: a\n\n"), ("gzip", once.followed(by: gzip([":\n"]))),
    ] as [(String, Bytes)] {
      let (data, error) = try await events([Framing.length.frame("Content-Encoding: \(field)\r\n", body)])
      #expect(data == ["a"] && error == nil, "\(field)")
    }
    for field in ["br", "gzip, br", "gzip gzip", "gzip,gzip,gzip,gzip"] {
      await #expect(throws: EventSourceError.self) {
        try await events([Framing.length.frame("Content-Encoding: \(field)\r\n", once)])
      }
    }
  }

  @Test("a body that is cut, or goes wrong, throws behind all events that came before")
  func cutBodies() async throws {
    let gzip = "Content-Encoding: gzip\r\n\r\n"
    let noise = Bytes([UInt8](repeating: 0xFF, count: 100))
    for (head, body) in [
      ("Content-Length: 1000\r\n\r\n", "data: a\n\ndata: b\n\nda"),
      ("Transfer-Encoding: chunked\r\n\r\n", "12\r\ndata: a\n\ndata: b\n\n\r\n"),
      ("Transfer-Encoding: chunked\r\n\r\n", "12\r\ndata: a\n\ndata: b\n\n\r\nzz\r\n"),
      (gzip, self.gzip(["data: a\n\ndata: b\n\n"], isWhole: false)),
      (gzip, self.gzip(["data: a\n\ndata: b\n\n"], isWhole: false).followed(by: noise)),
      (gzip, self.gzip(["data: a\n\ndata: b\n\n"]).followed(by: noise)),
    ] as [(String, Bytes)] {
      let (data, error) = try await events([Bytes(eventStreamHead + head).followed(by: body)])
      #expect(data == ["a", "b"] && error != nil, "\(head)")
    }
  }

  @Test("what follows within the limit of an event is one line of any length, and the limit is an option")
  func longLines() async throws {
    let long = String(repeating: "x", count: 3_000_000)
    let answer = Bytes(eventStreamHead + "\r\ndata: \(long)\n\ndata: after\n\n")
    #expect(try await events([answer]).data == [long, "after"])
    var options = quickClient
    options.limits.maxEventBytes = 2_999_999
    let (data, error) = try await events([answer], options)
    #expect(data.isEmpty && error is StreamError)
  }

  @Test("a type is the last that is one, without its parameters and white space around it")
  func contentTypes() async throws {
    for (type, isRight) in [
      ("text/event-stream", true), ("TEXT/Event-Stream", true), ("text/event-stream\t; charset=utf-8", true),
      (" text/event-stream ;x", true), ("text/event-stream\r\nContent-Type: text/event-stream", true),
      ("text/html, text/event-stream", true), ("text/event-stream, nonsense", true),
      ("text/event-stream, text/html", false),
      ("text / event - stream", false), ("text/event-stream x", false), ("text/event-streams", false), ("", false),
      (";", false),
      ("te\u{212A}t/event-stream", false),
    ] {
      let answer = Bytes("HTTP/1.1 200 OK\r\nContent-Type: \(type)\r\n\r\ndata: a\n\n")
      if isRight {
        #expect(try await events([answer]).data == ["a"], "\(type)")
      } else {
        await #expect(throws: EventSourceError.self, "\(type)") { try await events([answer]) }
      }
    }
  }

  private func gzip(_ text: [UInt8], times: Int) -> [UInt8] {
    var writer = GzipWriter(DeflateSettings(windowBits: 15))
    var out = BytesBuilder()
    out.append(GzipWriter.header)
    for _ in 0..<times { writer.append(text.span, to: &out) }
    writer.finish(to: &out)
    return Array(out.take())
  }

  @Test("attack 17, of event streams: a bomb of comments stops at its limit, and the loop goes on meanwhile")
  func bomb() async throws {
    let head = Bytes(eventStreamHead + "Content-Encoding: gzip\r\n\r\n")
    let bomb = gzip([UInt8](repeating: 0x3A, count: 1 << 18) + [0x0A], times: 40)
    #expect(bomb.count < 64 << 10)
    var options = quickClient
    options.limits.maxInflatedBytes = 2 << 20
    let final = options
    _ = try await withLiteralServer([head.followed(by: Bytes(bomb))], holds: true) { url in
      let client = try await EventSource.connect(url, options: final)
      let reading = Task(executorPreference: UVLoop.shared) { try await client.read() }
      let longest = Mutex(Duration.zero)
      let processor = try await ProcessorTime(of: UVLoop.shared)
      let watching = Task {
        while !Task.isCancelled {
          let start = processor.now
          let time = try await UVLoop.shared.run { processor.now } - start
          longest.withLock { $0 = max($0, time) }
          try await Task.sleep(for: .milliseconds(1))
        }
      }
      await #expect(throws: StreamError.self) { try await reading.value }
      watching.cancel()
      #expect(longest.withLock { $0 } < .milliseconds(250))
    }
  }

  @Test("an event that shrinks to nearly nothing is no bomb")
  func compressible() async throws {
    let head = Bytes(eventStreamHead + "Content-Encoding: gzip\r\n\r\n")
    let text = String(repeating: "data: " + String(repeating: "x", count: 10_000) + "\n", count: 20) + "\n"
    _ = try await withLiteralServer([head.followed(by: Bytes(gzip(Array(text.utf8), times: 3)))]) { url in
      let client = try await EventSource.connect(url, options: quickClient)
      for _ in 0..<3 { #expect(try await client.read()?.data.utf8.count == 20 * 10_001 - 1) }
      client.cancel(nil)
    }
  }
}
