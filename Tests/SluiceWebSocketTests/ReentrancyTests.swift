import Sluice
import SluiceStreams
import Synchronization
import Testing

@testable import SluiceWebSocket

/// A callback may do anything with its connection and with others of its loop: no byte of one is ever a message of another, and none is lost.
@Suite("Callbacks that use connections", .timeLimit(.minutes(3)))
struct ReentrancyTests {
  /// What a callback does to a connection, on its loop.
  enum Action: CaseIterable {
    case poll, pollParts, cancel, abort, close, send, sendPart, ping, pong, flush, attach

    func perform(on ws: WebSocket) {
      switch self {
      case .poll: _ = try? ws.poll()
      case .pollParts: _ = try? ws.parts.poll()
      case .cancel: ws.cancel(nil)
      case .abort: ws.abort(StreamError.aborted)
      case .close: ws.closeWhenFlushed { _ in }
      case .send: if (try? ws.hasRoom()) == true { try? ws.push("from a callback") }
      case .sendPart:
        if (try? ws.hasRoomForPart()) == true {
          try? ws.parts.push(MessagePart(kind: .text, bytes: "x", isFinal: true))
        }
      case .ping: ws.sendControl(.ping, "p")
      case .pong: ws.sendPong("p")
      case .flush: ws.flush()
      case .attach:
        guard (try? ws.attachReader(NoWaker())) != nil else { return }
        ws.wakeReader()
        ws.detachReader()
      }
    }
  }

  /// What calls back, while messages of the first connection come.
  enum Callback: CaseIterable { case observer, transform, eventHandler, controlHandler }

  /// How the first connection is read.
  enum Gear: CaseIterable { case read, parts, readAhead }

  private final class NoWaker: SingleWaker {
    func wake() {}
  }

  private final class ActingObserver: WebSocketObserver {
    private let action = Mutex<(@Sendable () -> Void)?>(nil)
    private let isActing = Mutex(false)

    func set(_ body: (@Sendable () -> Void)?) { action.withLock { $0 = body } }

    func act() {
      // What the action brings about is not acted upon.
      guard let body = action.withLock({ $0 }), !isActing.withLock({ $0 }) else { return }
      isActing.withLock { $0 = true }
      body()
      isActing.withLock { $0 = false }
    }
    func didOpen() {}
    func didFailHandshake(status: Int?) {}
    func didReceive(byteCount: Int, endsMessage: Bool) { act() }
    func didSend(byteCount: Int, endsMessage: Bool) { act() }
    func didReachHighWatermark() { act() }
    func didMiss() { act() }
    func didEnd(_ code: CloseCode) { act() }
  }

  /// Two connections of one loop: the first gets `texts`, and much is unread on the second.
  private func withTwo(
    _ texts: [String], pings: Bool = false, isCompressed: Bool = false,
    _ body: (WebSocket, WebSocket, ActingObserver) async throws -> Void
  ) async throws {
    let observer = ActingObserver()
    var options = WebSocketServerOptions()
    options.connection.observer = observer
    options.connection.closeTimeout = .milliseconds(200)
    var clientOptions = WebSocketClientOptions()
    if isCompressed {
      var deflate = PermessageDeflate()
      deflate.threshold = 0
      options.extensions = [deflate]
      clientOptions.extensions = [deflate]
    }
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0", options: options)
    defer { server.stop() }
    async let acceptedFirst = server.connections.read()
    let near = try await WebSocket.connect(server.url, options: clientOptions)
    let first = try #require(try await acceptedFirst)
    async let acceptedSecond = server.connections.read()
    let other = try await WebSocket.connect(server.url, options: clientOptions)
    let second = try #require(try await acceptedSecond)
    let filling = Task {
      for number in 0..<2000 { try await other.send(String(repeating: "other \(number) ", count: 40)) }
    }
    // What is read ahead of it is full, and more waits in the system.
    try await Task.sleep(for: .milliseconds(100))
    let sending = Task {
      for text in texts {
        try await near.send(text)
        if pings { near.loop.perform { near.sendControl(.ping, "ping") } }
      }
    }
    try await body(first, second, observer)
    observer.set(nil)
    for socket in [near, other, first, second] { socket.abort(StreamError.aborted) }
    filling.cancel()
    sending.cancel()
    _ = await (filling.result, sending.result)
  }

  private static let texts = (0..<60).map { number in
    "\(number) " + String(repeating: "first", count: [1, 3, 30, 4000][number % 4])
  }

  @Test(
    "an observer does anything to another connection: all messages of the first are its own",
    arguments: Action.allCases,
    Gear.allCases)
  func observerOfAnother(action: Action, gear: Gear) async throws {
    for isCompressed in [false, true] {
      try await withTwo(Self.texts, isCompressed: isCompressed) { first, second, observer in
        observer.set { action.perform(on: second) }
        let seen = try await read(first, gear, count: Self.texts.count)
        #expect(seen == Self.texts)
      }
    }
  }

  @Test("an observer does anything to its own connection: what is read is what was sent", arguments: Action.allCases)
  func observerOfTheSame(action: Action) async throws {
    for gear in Gear.allCases {
      try await withTwo(Self.texts) { first, second, observer in
        observer.set { action.perform(on: first) }
        var seen: [String] = []
        do { seen = try await read(first, gear, count: Self.texts.count, atMost: .milliseconds(300)) } catch {}
        // What the observer has read itself, or has ended, is not there.
        var expected = Self.texts[...]
        for text in seen {
          let place = try #require(expected.firstIndex(of: text), "\(text.prefix(20)) is none, or comes twice")
          expected = expected[(place + 1)...]
        }
        if ![.poll, .pollParts, .cancel, .abort, .close].contains(action) { #expect(seen == Self.texts) }
      }
    }
  }

  @Test("so does a transform, or the handler of an event or of a ping", arguments: Action.allCases, Callback.allCases)
  func otherCallbacks(action: Action, callback: Callback) async throws {
    try await withTwo(Self.texts, pings: callback == .controlHandler) { first, second, _ in
      let act: @Sendable () -> Void = { action.perform(on: second) }
      let seen = Mutex<[String]>([])
      switch callback {
      case .observer: return
      case .transform:
        let piping = Task(executorPreference: first.loop) {
          try await first.map { message in
            #expect(second.loop.isCurrent)
            act()
            return message.text
          }.pipe(Writable<String> { text in seen.withLock { $0.append(text) } })
        }
        try await wait(until: seen, has: Self.texts.count)
        piping.cancel()
        _ = await piping.result
      case .eventHandler, .controlHandler:
        let events = WebSocketCallbacks(first)
        if callback == .controlHandler { events.onPing { _ in act() } }
        events.onMessage { message in
          if callback == .eventHandler { act() }
          seen.withLock { $0.append(message.text) }
        }
        try await wait(until: seen, has: Self.texts.count)
        try events.close()
      }
      #expect(seen.withLock { $0 } == Self.texts)
    }
  }

  @Test("a transform that cancels its own stream is heeded when it has returned")
  func transformOfItsOwn() async throws {
    let own = Mutex<(any ReadableStream<Int>)?>(nil)
    let stream = SequenceStream(1...100).map { number in
      if number == 3 { own.withLock { $0 }?.cancel() }
      return number
    }
    own.withLock { $0 = stream }
    var seen: [Int] = []
    for try await number in stream { seen.append(number) }
    #expect(seen == [1, 2])
    own.withLock { $0 = nil }
  }

  @Test(
    "an observer that ends the connection as it hears of the end hears of it once",
    arguments: [Action.abort, .cancel, .close])
  func endInEnd(action: Action) async throws {
    let ends = Mutex(0)
    try await withTwo([]) { first, _, observer in
      observer.set {
        ends.withLock { $0 += 1 }
        action.perform(on: first)
      }
      first.abort(StreamError.aborted)
      try await first.loop.run {}
      #expect(ends.withLock { $0 } == 1)
    }
  }

  // MARK: reading

  private func read(_ ws: WebSocket, _ gear: Gear, count: Int, atMost limit: Duration = .seconds(60)) async throws
    -> [String]
  {
    if gear == .readAhead { try await Task.sleep(for: .milliseconds(30)) }
    let deadline = Task {
      try await Task.sleep(for: limit)
      ws.abort(StreamError.aborted)
    }
    defer { deadline.cancel() }
    let seen = Mutex<[String]>([])
    do {
      while seen.withLock({ $0.count }) < count, let text = try await next(ws, gear) {
        seen.withLock { $0.append(text) }
      }
    } catch {}
    return seen.withLock { $0 }
  }

  private func next(_ ws: WebSocket, _ gear: Gear) async throws -> String? {
    guard gear == .parts else { return try await ws.read()?.text }
    var text = ""
    while let part = try await ws.parts.read() {
      text += part.bytes.string
      if part.isFinal { return text }
    }
    return nil
  }

  private func wait(until seen: borrowing Mutex<[String]>, has count: Int) async throws {
    for _ in 0..<4000 where seen.withLock({ $0.count }) < count { try await Task.sleep(for: .milliseconds(5)) }
  }
}
