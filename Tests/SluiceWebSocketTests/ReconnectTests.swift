import HTTPTypes
import Sluice
import Synchronization
import Testing

@testable import SluiceWebSocket

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
    // What the server asks for, within reason.
    #expect(backoff.nextDelay(wanted: .seconds(20), random: 1) == .seconds(20))
    #expect(backoff.nextDelay(wanted: .seconds(1 << 30), random: 1) == .seconds(300))
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

  private var fast: ReconnectOptions {
    var options = ReconnectOptions()
    options.firstDelay = .milliseconds(5)
    options.maxDelay = .milliseconds(50)
    return options
  }

  @Test("a lost connection is made again, and resumed where it was, until the peer says that it is over")
  func resumes() async throws {
    // Each connection gives three numbers, from where the client says, and is then lost; the last one ends well.
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    let running = Task {
      try await server.run { ws in
        let start = Int(ws.request?.headerFields[.init("X-After")!] ?? "") ?? 0
        for number in start + 1...start + 3 { try await ws.send("\(number)") }
        if start >= 9 { return }
        if start == 3 { return try await ws.close(CloseCode(rawValue: 3001)) }
        // What was sent has arrived when its answer has.
        _ = try await ws.read()
        ws.abort(StreamError.aborted)
      }
    }
    let seen = Mutex<[Int]>([])
    var reconnect = fast
    reconnect.prepare = { attempt in
      let last = seen.withLock { $0.last }
      if let last { attempt.headers.append(name: "X-After", value: "\(last)") }
    }
    let numbers = Mutex(0)
    try await WebSocket.reconnecting(server.url, reconnect: reconnect) { ws in
      numbers.withLock { $0 += 1 }
      for try await message in ws {
        let number = Int(message.text) ?? -1
        seen.withLock { $0.append(number) }
        if number % 3 == 0 { try? await ws.send("seen") }
      }
    }
    #expect(seen.withLock { $0 } == Array(1...12))
    #expect(numbers.withLock { $0 } == 4)
    running.cancel()
    _ = await running.result
  }

  @Test("a final refusal is thrown at once, another is tried again, and cancellation ends the waiting")
  func refusals() async throws {
    let count = Mutex(0)
    var options = WebSocketServerOptions()
    options.onRequest = { _ in
      let number = count.withLock { count in
        count += 1
        return count
      }
      throw RequestRejection(status: number < 4 ? 503 : 403, reason: "not now")
    }
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0", options: options)
    let running = Task { try await server.run { _ in } }
    await #expect(throws: WebSocketConnectError.self) {
      try await WebSocket.reconnecting(server.url, reconnect: fast) { _ in Issue.record("there is no connection") }
    }
    #expect(count.withLock { $0 } == 4)
    running.cancel()
    _ = await running.result
    // Nobody listens: it goes on trying until it is cancelled.
    let url = server.url
    let quick = fast
    let trying = Task { try await WebSocket.reconnecting(url, reconnect: quick) { _ in } }
    try await Task.sleep(for: .milliseconds(200))
    trying.cancel()
    await #expect(throws: (any Error).self) { try await trying.value }
  }

  @Test("a handler's own error is thrown, and one that is done closes and ends")
  func handler() async throws {
    struct Own: Error {}
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    let running = Task { try await server.run { ws in try await ws.pipe(ws) } }
    await #expect(throws: Own.self) {
      try await WebSocket.reconnecting(server.url, reconnect: fast) { _ in throw Own() }
    }
    try await WebSocket.reconnecting(server.url, reconnect: fast) { ws in
      try await ws.send("once")
      #expect(try await ws.read() == "once")
    }
    running.cancel()
    _ = await running.result
  }
}
