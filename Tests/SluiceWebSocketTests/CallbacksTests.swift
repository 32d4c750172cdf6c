import Foundation
import Sluice
import SluiceIO
import SluiceTestSupport
import Synchronization
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

@Suite("The event style", .timeLimit(.minutes(1)))
struct CallbacksTests {
  /// What handlers saw, in order.
  private final class Seen: Sendable {
    private let lines = Mutex<[String]>([])
    func add(_ line: String) { lines.withLock { $0.append(line) } }
    var all: [String] { lines.withLock { $0 } }

    func wait(until isDone: @Sendable ([String]) -> Bool) async throws {
      for _ in 0..<2000 where !isDone(all) { try await Task.sleep(for: .milliseconds(2)) }
      #expect(isDone(all), "\(all.suffix(5))")
    }
  }

  private func serving(
    _ setUp: @escaping @Sendable (WebSocketCallbacks) -> Void, _ body: (String) async throws -> Void
  ) async throws {
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    let running = Task { try await server.runCallbacks(setUp) }
    try await body(server.url)
    running.cancel()
    _ = try? await running.value
  }

  @Test("a server that is cancelled closes with 1001, and returns when its connections have ended")
  func cancellation() async throws {
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    let seen = Seen()
    let running = Task {
      try await server.runCallbacks { ws in
        ws.onMessage { ws.trySend($0) }
        ws.onClose { code, _ in seen.add("close \(code.rawValue)") }
      }
    }
    let client = try await WebSocket.connect(server.url)
    try await client.send("hello")
    #expect(try await client.read()?.text == "hello")
    running.cancel()
    #expect(try await client.read() == nil)
    #expect(client.closeStatus?.code == .goingAway)
    await #expect(throws: CancellationError.self) { try await running.value }
    #expect(seen.all == ["close 1001"])
  }

  @Test("an echo: open, messages in order, ping and pong, close with code and reason")
  func echo() async throws {
    let server = Seen()
    try await serving { ws in
      ws.onOpen { server.add("open") }
      ws.onMessage { ws.trySend($0) }
      ws.onPing { server.add("ping \($0.string)") }
      ws.onClose { code, reason in server.add("close \(code.rawValue) \(reason)") }
    } _: { url in
      let client = Seen()
      let ws = WebSocketCallbacks.connect(url)
      // Sent before it is open, and from another thread.
      #expect(ws.trySend("first"))
      ws.onOpen { client.add("open") }
      ws.onMessage { client.add($0.text) }
      ws.onPong { client.add("pong \($0.string)") }
      ws.onError { client.add("error \($0)") }
      ws.onClose { code, reason in client.add("close \(code.rawValue) \(reason)") }
      for number in 0..<100 { #expect(ws.trySend("\(number)")) }
      ws.ping("hello")
      try await client.wait { $0.count == 102 || $0.contains("pong hello") && $0.count == 103 }
      #expect(client.all.filter { !$0.hasPrefix("pong") } == ["open", "first"] + (0..<100).map(String.init))
      try ws.close(CloseCode(rawValue: 4002), "bye")
      await ws.waitUntilClosed()
      try await client.wait { $0.last == "close 4002 " }
      try await server.wait { $0.last == "close 4002 bye" }
      #expect(!ws.trySend("late") && ws.bufferedAmount == 0)
      await #expect(throws: WebSocketError.self) { try await Task { try ws.close(CloseCode(rawValue: 1005)) }.value }
    }
  }

  @Test("what happens before its handler is set is kept")
  func kept() async throws {
    try await serving { ws in
      for number in 0..<10 { ws.trySend("\(number)") }
      try? ws.close(.normal, "that was all")
    } _: { url in
      let ws = WebSocketCallbacks(try await WebSocket.connect(url))
      try await Task.sleep(for: .milliseconds(100))
      let seen = Seen()
      ws.onMessage { seen.add($0.text) }
      try await seen.wait { $0.count == 10 }
      try await Task.sleep(for: .milliseconds(50))
      ws.onOpen { seen.add("open") }
      ws.onClose { code, reason in seen.add("close \(code.rawValue) \(reason)") }
      try await seen.wait { $0.count == 12 }
      #expect(seen.all == (0..<10).map(String.init) + ["open", "close 1000 that was all"])
    }
  }

  @Test("what can't be sent now is refused, and a drain tells when it can; nothing is lost or held without bound")
  func drain() async throws {
    let server = Seen()
    let received = Mutex(0)
    try await serving { ws in
      let size = 10_000
      let left = Mutex(500)
      let fill: @Sendable () -> Void = {
        while left.withLock({ $0 > 0 }), ws.trySend(Bytes([UInt8](repeating: 1, count: size))) {
          left.withLock { $0 -= 1 }
        }
        #expect(ws.bufferedAmount < 4 << 20)
        if left.withLock({ $0 == 0 }) { try? ws.close() } else { server.add("full") }
      }
      ws.onOpen { fill() }
      ws.onDrain { fill() }
    } _: { url in
      let ws = try await WebSocket.connect(url)
      try await Task.sleep(for: .milliseconds(200))
      while let message = try await ws.read() { received.withLock { $0 += message.bytes.count } }
      #expect(received.withLock { $0 } == 5_000_000)
      #expect(server.all.count > 1)
    }
  }

  @Test("no connection, and one that is lost: an error, and a close with 1006")
  func errors() async throws {
    let seen = Seen()
    let nobody = WebSocketCallbacks.connect("ws://127.0.0.1:1")
    nobody.onError { _ in seen.add("error") }
    nobody.onClose { code, _ in seen.add("close \(code.rawValue)") }
    try await seen.wait { $0 == ["error", "close 1006"] }
    try await SimulatedWire.run { near, far, loop in
      let ws = WebSocketCallbacks(try await SimulatedWire.open(near, far))
      let lost = Seen()
      ws.onError { _ in lost.add("error") }
      ws.onClose { code, _ in lost.add("close \(code.rawValue)") }
      try await near.close()
      await ws.waitUntilClosed()
      #expect(lost.all == ["error", "close 1006"])
    }
  }

  @Test("handlers that hold their own connection leave nothing behind when it is closed")
  func released() async throws {
    weak var events: WebSocketCallbacks?
    try await serving { ws in
      ws.onMessage { ws.trySend($0) }
    } _: { url in
      do {
        let ws = WebSocketCallbacks.connect(url)
        events = ws
        ws.onOpen { ws.trySend("x") }
        ws.onMessage { _ in try? ws.close() }
        ws.onError { _ in ws.ping() }
        await ws.waitUntilClosed()
      }
      for _ in 0..<200 where events != nil { try await Task.sleep(for: .milliseconds(5)) }
      #expect(events == nil)
    }
  }

  @Test("taking over a connection that somebody reads fails, and leaves the reader alone")
  func takingOverWhileRead() async throws {
    try await SimulatedConnection.run { ends, loop in
      let reading = Task(executorPreference: loop) { try await ends.server.read() }
      try await loop.sleep(for: .seconds(1))
      let seen = Seen()
      let events = WebSocketCallbacks(ends.server)
      events.onError { seen.add("\($0)") }
      await events.waitUntilClosed()
      #expect(seen.all == ["\(StreamError.concurrentRead)"])
      try await ends.client.send("still here")
      let message = try await reading.value
      #expect(message == "still here")
    }
  }

  @Test("the watermark holds for messages from other threads too")
  func watermarkFromOtherThreads() async throws {
    try await serving { ws in
      ws.onMessage { _ in }
    } _: { url in
      var options = WebSocketClientOptions()
      options.connection.writeHighWatermark = 1000
      let ws = WebSocketCallbacks.connect(url, options: options)
      let sent = Counter()
      // While the loop is busy nothing leaves.
      ws.loop.execute { usleep(300_000) }
      for _ in 0..<1000 where ws.trySend([UInt8](repeating: 1, count: 100).bytes) { sent.add(1) }
      #expect(sent.value <= 11)
      try ws.close()
      await ws.waitUntilClosed()
    }
  }

  @Test("pings and pongs that come before their handlers are kept, the latest sixteen of each, also beyond the close")
  func keptControls() async throws {
    try await SimulatedWire.run { near, far, _ in
      let ws = try await SimulatedWire.open(near, far)
      let events = WebSocketCallbacks(ws)
      // Reading goes on although no message has a handler: none comes.
      for number in 0..<20 { try await near.write(frame(0x89, Bytes("\(number)"))) }
      try await near.write(frame(0x8A, "unasked"))
      try await near.write(frame(0x88, [0x03, 0xE8]))
      let seen = Seen()
      await events.waitUntilClosed()
      events.onPing { seen.add("ping \($0.string)") }
      events.onPong { seen.add("pong \($0.string)") }
      events.onClose { code, _ in seen.add("close \(code.rawValue)") }
      #expect(seen.all == (4..<20).map { "ping \($0)" } + ["pong unasked", "close 1000"])
    }
  }

  @Test("nothing can be sent after close, on the loop and elsewhere")
  func afterClose() async throws {
    try await serving { ws in
      ws.onMessage { ws.trySend($0) }
    } _: { url in
      let ws = WebSocketCallbacks.connect(url)
      let seen = Seen()
      ws.onOpen { seen.add("open") }
      ws.onMessage { _ in }
      ws.onClose { _, _ in seen.add("close") }
      try await seen.wait { $0.contains("open") }
      #expect(throws: WebSocketError.self) { try ws.close(CloseCode(rawValue: 1006)) }
      #expect(ws.trySend("before"))
      try ws.close()
      #expect(!ws.trySend("after"))
      #expect(try await ws.loop.run { ws.trySend("after") } == false)
      try await seen.wait { $0.contains("close") }
    }
  }

  @Test("refusals cost nothing, from other threads and on the loop")
  func refusals() async throws {
    var options = WebSocketServerOptions()
    options.connection.closeTimeout = .milliseconds(200)
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0", options: options)
    // Nobody reads at the other end, where what came stays unread; the server ends nevertheless.
    let running = Task { try await server.runCallbacks { _ in } }
    do {
      let ws = WebSocketCallbacks.connect(server.url)
      let seen = Seen()
      ws.onOpen { seen.add("open") }
      try await seen.wait { $0.contains("open") }
      // The loop is busy, so that whatever it is told stays.
      let isBusy = Atomic<Bool>(true)
      ws.loop.execute { while isBusy.load(ordering: .relaxed) {} }
      let message = Message(String(repeating: "x", count: 10_000))
      while ws.trySend(message) {}
      let before = residentMemory()
      for _ in 0..<1_000_000 { ws.trySend(message) }
      #expect(residentMemory() - before < 8 << 20)
      isBusy.store(false, ordering: .relaxed)
      let grown = try await ws.loop.run {
        while ws.trySend(message) {}
        let before = residentMemory()
        for _ in 0..<1_000_000 { ws.trySend(message) }
        return residentMemory() - before
      }
      #expect(grown < 8 << 20)
      try ws.close()
    }
    running.cancel()
    await #expect(throws: CancellationError.self) { try await running.value }
  }

  @Test("small messages that wait for the connection, or for the loop, count as what they take")
  func smallMessages() async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let ws = WebSocketCallbacks.connect("ws://127.0.0.1:\(listener.port)")
    let count = try await ws.loop.run {
      var count = 0
      while ws.trySend("") { count += 1 }
      return count
    }
    #expect(count < 1000)
    try ws.close()
    listener.cancel()
  }
}

private final class Counter: Sendable {
  private let count = Atomic(0)
  func add(_ number: Int) { count.add(number, ordering: .relaxed) }
  var value: Int { count.load(ordering: .relaxed) }
}

extension [UInt8] {
  fileprivate var bytes: Bytes { Bytes(self) }
}

/// Bytes of this process in memory.
func residentMemory() -> Int {
  let pages = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8).split(separator: " ")[1]
  return (pages.flatMap { Int($0) } ?? 0) * 4096
}
