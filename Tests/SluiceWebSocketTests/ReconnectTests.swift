import HTTPTypes
import Sluice
import SluiceTestSupport
import Synchronization
import Testing

@testable import SluiceClient

@Suite("Reconnecting clients", .timeLimit(.minutes(1)))
struct ReconnectTests {
  @Test("the longest wait doubles up to its limit, and a stable connection begins anew")
  func backoff() {
    var options = ReconnectOptions()
    options.firstDelay = .seconds(1)
    options.maxDelay = .seconds(30)
    var backoff = Backoff(options)
    let delays = (0..<8).map { _ in backoff.nextDelay(random: 1) }
    #expect(delays == [1, 2, 4, 8, 16, 30, 30, 30].map { .seconds($0) })
    #expect(backoff.nextDelay(random: 0) == .zero)
    #expect(backoff.nextDelay(random: 0.5) == .seconds(15))
    backoff.connectionDidEnd(after: .seconds(9))
    #expect(backoff.nextDelay(random: 1) == .seconds(30))
    backoff.connectionDidEnd(after: .seconds(10))
    #expect(backoff.nextDelay(random: 1) == .seconds(1))
    // What the server asks for, within the bound that the options name.
    #expect(backoff.nextDelay(wanted: .seconds(20), random: 1) == .seconds(20))
    #expect(backoff.nextDelay(wanted: .seconds(1 << 30), random: 1) == .seconds(30))
    options.maxAttempts = 2
    backoff = Backoff(options)
    #expect(backoff.nextDelay(random: 1) != nil && backoff.nextDelay(random: 1) != nil)
    #expect(backoff.nextDelay(random: 1) == nil)
  }

  @Test("which errors are final")
  func finality() {
    func refusal(_ status: Int) -> any Error {
      WebSocketConnectError.handshake(.refused(status: status, headers: [:], bodyStart: ""))
    }
    for status in [400, 401, 403, 404, 407, 426] { #expect(ReconnectOptions.isFinalByDefault(refusal(status))) }
    for status in [408, 425, 429, 500, 502, 503, 301] { #expect(!ReconnectOptions.isFinalByDefault(refusal(status))) }
    #expect(ReconnectOptions.isFinalByDefault(TLSError.wrongName(names: [], wanted: "x")))
    #expect(!ReconnectOptions.isFinalByDefault(TLSError.truncated))
    #expect(!ReconnectOptions.isFinalByDefault(WebSocketConnectError.endedEarly))
  }

  /// Without chance, so that times are exact.
  private var exact: ReconnectOptions {
    var options = ReconnectOptions()
    options.jitter = { 1 }
    return options
  }

  /// A server on a simulated network, whose connections are numbered from 0.
  private func run(
    server: WebSocketHandshakeOptions = WebSocketHandshakeOptions(), _ reconnect: ReconnectOptions,
    serving handler: @escaping @Sendable (WebSocket, Int) async throws -> Void,
    _ body: @escaping @Sendable (Readable<WebSocket>, SimulatedLoop) async throws -> Void
  ) async throws {
    let loop = SimulatedLoop()
    let network = SimulatedNetwork(loop: loop)
    let count = Mutex(0)
    let connections = WebSocket.connections(to: "ws://test/feed", headers: [:], reconnect: reconnect, on: loop) {
      attempt in
      let (near, far) = network.connection()
      let number = count.withLock { count in
        defer { count += 1 }
        return count
      }
      Task(executorPreference: loop) {
        let socket = try await WebSocket.accept(over: far, options: server)
        do {
          try await handler(socket, number)
          try await socket.close(.normal)
        } catch { socket.abort(error) }
      }
      var options = WebSocketRequestOptions()
      options.headers = attempt.headers
      return try await WebSocket.connect(attempt.url, over: near, options: options)
    }
    try await loop.simulate { try await body(connections, loop) }
  }

  @Test("a lost connection is made again, and resumed where it was, until the peer says that it is over")
  func resumes() async throws {
    let seen = Mutex<[Int]>([])
    let waits = Mutex<[Duration]>([])
    let numbers = Mutex(0)
    var reconnect = exact
    reconnect.prepare = { attempt in
      let last = seen.withLock { $0.last }
      if let last { attempt.headers.append(name: "X-After", value: "\(last)") }
    }
    reconnect.willWait = { time, _ in waits.withLock { $0.append(time) } }
    // Each connection gives three numbers, from where the client says, and is then lost; the last one ends well.
    try await run(reconnect) { ws, _ in
      let start = Int(ws.request?.headerFields[.init("X-After")!] ?? "") ?? 0
      for number in start + 1...start + 3 { try await ws.send("\(number)") }
      if start >= 9 { return }
      if start == 3 { return try await ws.close(CloseCode(rawValue: 3001)) }
      // What was sent has arrived when its answer has.
      _ = try await ws.read()
      throw StreamError.aborted
    } _: { connections, loop in
      try await WebSocket.run(
        { ws in
          numbers.withLock { $0 += 1 }
          for try await message in ws {
            let number = Int(message.text) ?? -1
            seen.withLock { $0.append(number) }
            if number % 3 == 0 { try? await ws.send("seen") }
          }
        }, with: connections)
      #expect(loop.now == .seconds(1 + 2 + 4))
    }
    #expect(seen.withLock { $0 } == Array(1...12))
    #expect(numbers.withLock { $0 } == 4)
    #expect(waits.withLock { $0 } == [1, 2, 4].map { .seconds($0) })
  }

  @Test("the wait begins anew after a connection that lasted, and the server's Retry-After is heeded")
  func waiting() async throws {
    let waits = Mutex<[Duration]>([])
    let requests = Mutex(0)
    var reconnect = exact
    reconnect.maxDelay = .seconds(200)
    reconnect.willWait = { time, _ in waits.withLock { $0.append(time) } }
    var server = WebSocketHandshakeOptions()
    server.onRequest = { _ in
      let number = requests.withLock { count in
        count += 1
        return count
      }
      if number == 3 {
        throw RequestRejection(status: 503, reason: "not now", fields: [.retryAfter: "100"])
      }
      return [:]
    }
    try await run(server: server, reconnect) { ws, number in
      // The second connection lasts.
      if number == 1 { try await (ws.loop as? SimulatedLoop)?.sleep(for: .seconds(10)) }
      if number < 3 { throw StreamError.aborted }
    } _: { connections, _ in
      try await WebSocket.run({ ws in for try await _ in ws {} }, with: connections)
    }
    #expect(waits.withLock { $0 } == [.seconds(1), .seconds(1), .seconds(100)])
  }

  @Test("a final refusal is thrown at once, another is tried again for as long as it takes")
  func refusals() async throws {
    let count = Mutex(0)
    var server = WebSocketHandshakeOptions()
    server.onRequest = { _ in
      let number = count.withLock { count in
        count += 1
        return count
      }
      throw RequestRejection(status: number < 100 ? 503 : 403, reason: "not now")
    }
    try await run(server: server, exact) { _, _ in
    } _: { connections, loop in
      await #expect(throws: WebSocketConnectError.self) {
        try await WebSocket.run({ _ in Issue.record("there is no connection") }, with: connections)
      }
      // 1, 2, 4, 8, 16, then 30 each.
      #expect(loop.now == .seconds(31 + 94 * 30))
    }
    #expect(count.withLock { $0 } == 100)
  }

  @Test("as many attempts as are allowed, and cancellation ends the waiting")
  func attempts() async throws {
    var server = WebSocketHandshakeOptions()
    server.onRequest = { _ in throw RequestRejection(status: 503, reason: "not now") }
    var reconnect = exact
    reconnect.maxAttempts = 3
    try await run(server: server, reconnect) { _, _ in
    } _: { connections, loop in
      await #expect(throws: WebSocketConnectError.self) { try await connections.read() }
      #expect(loop.now == .seconds(1 + 2 + 4))
    }
    try await run(server: server, exact) { _, _ in
    } _: { connections, loop in
      let trying = Task(executorPreference: loop) { try await connections.read() }
      try await loop.sleep(for: .seconds(300))
      trying.cancel()
      await #expect(throws: CancellationError.self) { try await trying.value }
      #expect(loop.now == .seconds(300))
    }
  }

  @Test("a peer that breaks the protocol, or says that we do, is not asked again")
  func violations() async throws {
    for code in [1002, 1007, 1008, 1009] {
      try await run(exact) { ws, _ in
        try await ws.close(as: CloseCode(rawValue: UInt16(code)), "")
      } _: { connections, loop in
        await #expect(throws: WebSocketError.self) {
          try await WebSocket.run({ ws in for try await _ in ws {} }, with: connections)
        }
        #expect(loop.now < .seconds(1))
      }
    }
  }

  @Test("a handler's own error is thrown, and one that is done closes and ends")
  func handler() async throws {
    struct Own: Error {}
    try await run(exact) { ws, _ in
      try await ws.pipe(ws)
    } _: { connections, _ in
      await #expect(throws: Own.self) { try await WebSocket.run({ _ in throw Own() }, with: connections) }
    }
    try await run(exact) { ws, _ in
      try await ws.pipe(ws)
    } _: { connections, loop in
      try await WebSocket.run(
        { ws in
          try await ws.send("once")
          #expect(try await ws.read() == "once")
        }, with: connections)
      #expect(loop.now < .seconds(1))
    }
  }

  @Test("a stream of messages over many connections loses nothing that was not sent, and repeats nothing")
  func stream() async throws {
    let received = Mutex<[Int]>([])
    let connections = Mutex(0)
    try await run(exact) { ws, number in
      connections.withLock { $0 += 1 }
      // Each connection is closed after some messages, while others are on their way; the last stays.
      for try await message in ws {
        let index = Int(message.text.prefix { $0 != " " }) ?? -1
        received.withLock { $0.append(index) }
        if number < 5, index % 100 == 99 { return try await ws.close(as: .goingAway, "") }
      }
    } _: { connections, loop in
      let stream = WebSocket.stream(over: connections, on: loop)
      let padding = String(repeating: "x", count: 2000)
      let reading = Task(executorPreference: loop) { try await stream.read() }
      for number in 0..<1000 { try await stream.write(.text("\(number) \(padding)")) }
      try await stream.close()
      #expect(try await reading.value == nil)
    }
    #expect(connections.withLock { $0 } == 6)
    // What the peer had been given but did not read is lost, nothing comes twice, and all that came last is there.
    let numbers = received.withLock { $0 }
    #expect(zip(numbers, numbers.dropFirst()).allSatisfy { $0 < $1 })
    #expect(numbers.suffix(300) == Array(700..<1000)[...])
  }

  @Test("over real sockets: a server that restarts is found again")
  func restart() async throws {
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    let first = Task { try await server.run { ws in try await ws.pipe(ws) } }
    var reconnect = ReconnectOptions()
    reconnect.firstDelay = .milliseconds(20)
    reconnect.maxDelay = .milliseconds(20)
    let stream = WebSocket.reconnecting(server.url, reconnect: reconnect)
    try await stream.write("before")
    #expect(try await stream.read() == "before")
    first.cancel()
    _ = await first.result
    let again = try await WebSocketServer.listen(server.url)
    let second = Task { try await again.run { ws in try await ws.pipe(ws) } }
    let echo = Task { try await stream.read() }
    // Nothing is in flight when the loss is seen.
    try await Task.sleep(for: .milliseconds(200))
    try await stream.write("after")
    #expect(try await echo.value == "after")
    try await stream.close()
    #expect(try await stream.read() == nil)
    second.cancel()
    _ = await second.result
  }
}
