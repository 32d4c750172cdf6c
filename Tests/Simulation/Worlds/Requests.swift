import HTTPTypes
import Logging
import Sluice
import SluiceHTTP
import SluiceServer
import SluiceStreams
import SluiceTestSupport
import SluiceTesting
import SluiceWebSocket
import SluiceWebSocketProtocol
import Synchronization

/// An HTTP server's connection, and a client that asks for one thing after the other, without waiting for the answers.
///
/// - Answers come in the order of the requests, each whole, and no more than were asked for.
/// - Where nothing is cut, every request is answered, up to the one that ends the connection.
/// - Whatever the client does, the server's side ends within its times.
struct Requests: World {
  enum Request: String, Codable, CaseIterable, Sendable {
    case get, head, echo, echoInChunks, stream, missing, tooLarge, failing, failingStream, continued
    /// These are the last of a connection.
    case close, malformed, slow, webSocket, events
  }
  var wire: Wire
  var isSecure: Bool
  var requests: [Request]
  /// Bytes that the client sends at once.
  var pieceSize: Int
  var pause: Duration
  var bodySize: Int
  var shutsDown: Duration?
  var faults: [WireFault]

  init(_ random: inout SeededGenerator) {
    wire = Wire(&random)
    isSecure = random.chance(4)
    requests = (0..<random.number(0..<8)).map { _ in random.pick(Request.allCases) }
    pieceSize = random.pick([1, 50, 10_000])
    pause = .milliseconds(random.pick([0, 0, 3]))
    bodySize = random.pick([0, 1, 1000, wire.pieceSize < 1000 || pieceSize < 50 ? 1000 : 200_000])
    shutsDown = random.chance(5) ? .milliseconds(random.number(0..<2000)) : nil
    faults = []
    for _ in 0..<random.pick([0, 0, 1]) { faults.append(WireFault(&random, connections: 1)) }
  }

  var simpler: [Requests] {
    var worlds: [Requests] = []
    func add(_ change: (inout Requests) -> Void) {
      var world = self
      change(&world)
      worlds.append(world)
    }
    for index in faults.indices { add { $0.faults.remove(at: index) } }
    for index in requests.indices { add { $0.requests.remove(at: index) } }
    if isSecure { add { $0.isSecure = false } }
    if wire != .plain { add { $0.wire = .plain } }
    if shutsDown != nil { add { $0.shutsDown = nil } }
    if pieceSize < 10_000 { add { $0.pieceSize = 10_000 } }
    if pause > .zero { add { $0.pause = .zero } }
    if bodySize > 1 { add { $0.bodySize /= 10 } }
    return worlds
  }

  var faultNames: [String] { faults.map(\.kind.rawValue) + (shutsDown == nil ? [] : ["shutdown"]) }

  var description: String {
    "requests \(requests.map(\.rawValue)) over \(wire), TLS \(isSecure), \(pieceSize) bytes at once, \(pause) apart, bodies of \(bodySize) bytes"
      + (shutsDown.map { "\n  ! shut down at \($0)" } ?? "") + faults.map { "\n  ! \($0)" }.joined()
  }

  // MARK: life

  func live(on stage: Stage) async throws {
    let wires = stage.connection(wire)
    var options = HTTPServerOptions()
    options.maxBodySize = max(bodySize, 1000)
    options.keepAliveTimeout = .seconds(20)
    if isSecure { options.listen.tls = stage.identities.server }
    let connection = HTTPConnection(
      wires.far, routes: routes, options: options, counter: options.listen.counter(),
      logger: Logger(label: "simulate") { _ in SwiftLogNoOpLogHandler() })
    let serving = stage.begin("server") {
      let task = Task(executorPreference: stage.loop) { await connection.serve() }
      connection.servingTask = Task(executorPreference: stage.loop) { await task.value }
      await task.value
    }
    for fault in faults { fault.apply(to: wires, on: stage) }
    if let shutsDown { stage.at(shutsDown) { connection.endForShutdown() } }
    if isSecure {
      do {
        let client = try await stage.identities.client.connect(over: wires.near, to: "www.example.com")
        await talk(over: client, stage)
      } catch { stage.outcome("requests: \(type(of: error))") }
    } else {
      await talk(over: wires.near, stage)
    }
    await serving.value
  }

  private func talk(over stream: some PolledDuplexStream<Bytes, Bytes>, _ stage: Stage) async {
    let writing = stage.begin("client's writer") {
      do {
        for (index, request) in requests.enumerated() {
          try await send(request.bytes(index, bodySize), over: stream, stage)
          if request == .slow { try await stage.loop.sleep(for: .seconds(15)) }
        }
        // Some half-close at once, others wait for the server to end.
        if pause == .zero { try await stream.close() }
      } catch {
        stage.note("client's writer: \(type(of: error))")
      }
    }
    var answers = Answers(requests, bodySize, maySendLate: !faults.allSatisfy(\.isHarmless))
    do {
      while let chunk = try await stream.read() { answers.take(chunk) }
      answers.end()
      stage.note("end behind \(answers.count) answers")
    } catch {
      stage.note("failed behind \(answers.count) answers: \(type(of: error))")
      answers.fail()
    }
    await writing.value
    stream.cancel(nil)
    try? await stream.close()
    stage.outcome("answers: \(answers.count)")
    if let problem = answers.problem { stage.violate(problem) }
    guard faults.allSatisfy(\.isHarmless), shutsDown == nil, !answers.hasFailed else { return }
    let expected = (requests.firstIndex { $0.isLast }.map { $0 + 1 }) ?? requests.count
    if answers.count < expected { stage.violate("\(answers.count) of \(expected) requests were answered") }
  }

  private func send(_ bytes: Bytes, over stream: some PolledDuplexStream<Bytes, Bytes>, _ stage: Stage) async throws {
    var rest = bytes
    while !rest.isEmpty {
      let piece = rest.prefix(pieceSize)
      rest = rest.dropFirst(piece.count)
      try await stream.write(Bytes(copying: piece.span))
      if pause > .zero { try await stage.loop.sleep(for: pause) }
    }
  }

  private var routes: [HTTPRoute] {
    [
      .respond("/get/{number}", methods: [.get]) { .text("get \($0.parameters["number"] ?? "")") },
      .respond("/echo/{number}", methods: [.post]) { request in
        let body: Bytes = try await request.body.collect(limit: 1 << 20)
        return .bytes(body, type: "text/plain")
      },
      .respond("/stream/{number}") { _ in
        let count = Mutex(0)
        let size = bodySize
        return .stream(
          Readable {
            let given = count.withLock { count in
              defer { count += 100 }
              return count
            }
            if given >= size { return nil }
            return Bytes(repeatElement(UInt8(ascii: "s"), count: min(100, size - given)))
          }, type: "text/plain")
      },
      .respond("/failing/{number}") { _ in throw StreamError.aborted },
      .respond("/failing-stream/{number}") { _ in
        let isSecond = Flag()
        return .stream(
          Readable {
            if isSecond.raise() { throw StreamError.aborted }
            return "some"
          }, type: "text/plain")
      },
      .webSocket("/ws/{number}") { ws in try await ws.pipe(ws) },
      .events("/events/{number}") { events in
        try await events.send("one")
        try await events.send("two")
      },
    ]
  }
}

extension Requests.Request {
  /// Whether the connection answers nothing behind it.
  var isLast: Bool {
    switch self {
    case .close, .malformed, .slow, .webSocket, .events, .failingStream, .tooLarge, .missing: true
    case .get, .head, .echo, .echoInChunks, .stream, .failing, .continued: false
    }
  }

  func bytes(_ number: Int, _ bodySize: Int) -> Bytes {
    let body = String(repeating: "b", count: bodySize)
    func head(_ method: String, _ path: String, _ fields: String = "") -> String {
      "\(method) /\(path)/\(number) HTTP/1.1\r\nHost: test\r\n\(fields)\r\n"
    }
    let text =
      switch self {
      case .get: head("GET", "get")
      case .head: head("HEAD", "get")
      case .echo: head("POST", "echo", "Content-Length: \(bodySize)\r\n") + body
      case .continued: head("POST", "echo", "Content-Length: \(bodySize)\r\nExpect: 100-continue\r\n") + body
      case .echoInChunks:
        head("POST", "echo", "Transfer-Encoding: chunked\r\n")
          + (bodySize > 0 ? "\(String(bodySize, radix: 16))\r\n\(body)\r\n" : "") + "0\r\n\r\n"
      case .stream: head("GET", "stream")
      case .missing: head("GET", "nothing")
      case .tooLarge: head("POST", "echo", "Content-Length: 2000000\r\n")
      case .failing: head("GET", "failing")
      case .failingStream: head("GET", "failing-stream")
      case .close: head("GET", "get", "Connection: close\r\n")
      case .malformed: "GET / HTTP/1.1\r\nHost : test\r\n\r\n"
      case .slow: "GET /get/\(number) HTTP/1.1\r\nHo"
      case .webSocket:
        head(
          "GET", "ws",
          "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        )
          + "\u{1}"
      case .events: head("GET", "events", "Accept: text/event-stream\r\n")
      }
    if self != .webSocket { return Bytes(text) }
    // A ping of ours, masked with zeros, and a Close.
    return Bytes(
      Array(text.utf8.dropLast()) + [0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69, 0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8])
  }

  var hasBody: Bool {
    switch self {
    case .echo, .echoInChunks, .continued: true
    default: false
    }
  }

  var status: Int {
    switch self {
    case .get, .head, .echo, .echoInChunks, .stream, .failingStream, .close, .events, .continued: 200
    case .missing: 404
    case .tooLarge: 413
    case .failing: 500
    case .malformed: 400
    case .slow: 408
    case .webSocket: 101
    }
  }
}

/// Reads the answers to requests, by what is expected.
private struct Answers {
  private let requests: [Requests.Request]
  private let bodySize: Int
  private var text: [UInt8] = []
  private(set) var count = 0
  private(set) var problem: String?
  private(set) var hasFailed = false
  private var isTaken = false
  /// Whether a request may take longer than it has time, or end within its body.
  private let maySendLate: Bool

  init(_ requests: [Requests.Request], _ bodySize: Int, maySendLate: Bool) {
    self.maySendLate = maySendLate
    self.requests = requests
    self.bodySize = bodySize
  }

  mutating func take(_ chunk: Bytes) {
    text += chunk
    while problem == nil, !isTaken, parse() {}
  }

  mutating func fail() { hasFailed = true }

  mutating func end() {
    guard problem == nil, !text.isEmpty, !isTaken else { return }
    if count < requests.count, requests[count] == .failingStream {
      count += 1
    } else {
      problem = "an answer ended within"
    }
  }

  /// - Returns: whether there was an answer.
  private mutating func parse() -> Bool {
    guard let end = text.indices.dropFirst(3).first(where: { text[$0 - 3...$0].elementsEqual("\r\n\r\n".utf8) }) else {
      return false
    }
    let head = String(decoding: text[...end], as: UTF8.self)
    if head.hasPrefix("HTTP/1.1 100 ") {
      text.removeSubrange(...end)
      return true
    }
    guard count < requests.count else {
      problem = "more answers than requests"
      return false
    }
    let request = requests[count]
    if maySendLate, head.hasPrefix("HTTP/1.1 408 ") || request.hasBody && head.hasPrefix("HTTP/1.1 400 ") {
      isTaken = true
      hasFailed = true
      return false
    }
    // One that shuts down may refuse what it has not begun.
    guard head.hasPrefix("HTTP/1.1 \(request.status) ") else {
      problem = "\(request.rawValue) was answered with \(head.prefix(12)), expected \(request.status)"
      return false
    }
    if request == .webSocket || request == .events {
      isTaken = true
      count += 1
      return false
    }
    var rest = Array(text[(end + 1)...])
    var body: [UInt8] = []
    if request == .head {
      body = []
    } else if let length = head.lowercased().range(of: "content-length: ") {
      let size = Int(head[length.upperBound...].prefix { $0.isNumber }) ?? 0
      guard rest.count >= size else { return false }
      body = Array(rest.prefix(size))
      rest = Array(rest.dropFirst(size))
    } else {
      while true {
        guard let line = rest.indices.dropFirst().first(where: { rest[$0] == 0x0A && rest[$0 - 1] == 0x0D }) else {
          return false
        }
        let size = Int(String(decoding: rest[..<(line - 1)], as: UTF8.self), radix: 16) ?? 0
        guard rest.count >= line + 1 + size + 2 else { return false }
        body += rest[(line + 1)..<(line + 1 + size)]
        rest = Array(rest[(line + 1 + size + 2)...])
        if size == 0 { break }
      }
    }
    switch request {
    case .get, .close: if body != Array("get \(count)".utf8) { problem = "another answer than the request's: \(count)" }
    case .echo, .echoInChunks, .continued:
      if body.count != bodySize || body.contains(where: { $0 != UInt8(ascii: "b") }) {
        problem = "another body came back"
      }
    case .stream: if body.count != bodySize { problem = "a stream of \(body.count) of \(bodySize) bytes" }
    default: break
    }
    text = rest
    count += 1
    return true
  }
}
